"""Groups of videos."""

import json

import pytest

from mmskip.evaluation.compute_cost import by_group, group_of, read_groups


def test_a_video_is_found_by_its_file_name(tmp_path):
    path = tmp_path / 'groups.json'
    path.write_text(json.dumps({'a.b': 'fast', 'c': 'slow'}))
    groups = read_groups(path)
    assert group_of('data/videos_val/some class/a.b.mp4', groups) == 'fast'
    assert group_of('c', groups) == 'slow'


@pytest.mark.parametrize('video', ['data/other.mp4', None])
def test_a_video_without_a_group_is_named(video):
    with pytest.raises(ValueError, match=str(video)):
        group_of(video, dict(a='fast'))


@pytest.mark.parametrize('text', ['[', '["a"]', '{"a": 1}'])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / 'groups.json').write_text(text)
    with pytest.raises(ValueError, match=r'groups\.json'):
        read_groups(tmp_path / 'groups.json')


def test_every_result_with_a_group_is_in_one_of_them():
    results = [dict(group=g) for g in ('slow', 'fast', 'slow', None)]
    found = dict(by_group(results))
    assert list(found) == ['fast', 'slow']
    assert found == dict(fast=[results[1]], slow=[results[0], results[2]])

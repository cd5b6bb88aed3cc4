"""Lists for mmaction2."""

import pytest

from mmskip.datasets.action_lists import (
    ActionEntry,
    Medium,
    check_size,
    convert_split,
    write_classes,
    write_list,
)

ENTRIES = [
    ActionEntry('a', (3,)),
    ActionEntry('b', (0, 7)),
    ActionEntry('c', ()),
]


def test_lines_are_path_frames_and_labels(tmp_path):
    media = {'a': Medium('x/a.mp4', None), 'b': Medium('b', 5)}
    report = write_list(tmp_path / 'new' / 'l.txt', ENTRIES, media)
    assert report.path.read_text() == 'x/a.mp4 3\nb 5 0 7\n'
    assert (report.written, report.missing) == (2, ('c',))


def test_a_list_without_videos_is_refused(tmp_path):
    with pytest.raises(ValueError, match='none of 3 annotated'):
        write_list(tmp_path / 'l.txt', ENTRIES, {})
    assert not (tmp_path / 'l.txt').exists()


def test_a_video_annotated_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match='got a twice'):
        write_list(tmp_path / 'l.txt', [ENTRIES[0]] * 2, {})


def test_other_sizes_than_published_warn(recwarn):
    assert check_size('X train', 10_014, (10_024, 10_014))
    assert not recwarn
    with pytest.warns(UserWarning, match=r'X train: .*10,024 or 10,014'):
        assert not check_size('X train', 9_000, (10_024, 10_014))


def test_classes_are_one_a_line(tmp_path):
    write_classes(tmp_path / 'c.txt', ['Air drumming', 'Zumba'])
    assert (tmp_path / 'c.txt').read_text() == 'Air drumming\nZumba\n'


def test_a_split_is_checked_and_listed(tmp_path):
    (tmp_path / 'v_a.mp4').touch()
    arguments = ('X', ENTRIES[:1], (2,), tmp_path, tmp_path, 'val')
    with pytest.warns(UserWarning, match='X val: expected 2 videos'):
        report = convert_split(*arguments)
    assert report.path == tmp_path / 'val_list_videos.txt'
    assert report.path.read_text() == 'v_a.mp4 3\n'

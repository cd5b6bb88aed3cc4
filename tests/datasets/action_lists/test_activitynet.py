"""The annotation file of ActivityNet."""

import json

import pytest

from mmskip.datasets.action_lists import read_activitynet, read_segments


def video(subset, *annotations):
    return dict(
        subset=subset,
        duration=20.0,
        annotations=[
            dict(label=label, segment=[start, start + 1.5])
            for label, start in annotations
        ],
    )


RELEASE = dict(
    database=dict(
        _a=video('training', ('Zumba', 1), ('Archery', 5), ('Zumba', 9)),
        b=video('validation', ('Archery', 0)),
        c=video('testing'),
        d=video('training'),
    ),
    taxonomy=[
        dict(nodeName='Root', parentName=None),
        dict(nodeName='Sports', parentName='Root'),
        dict(nodeName='Archery', parentName='Sports'),
        dict(nodeName='Zumba', parentName='Sports'),
        dict(nodeName='Bowling', parentName='Sports'),
    ],
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(RELEASE))
    return path


def test_labels_are_unique_and_classes_the_leaves_in_order(path):
    classes, entries = read_activitynet(path)
    assert classes == ['Archery', 'Bowling', 'Zumba']
    assert entries == dict(training=[('_a', (0, 2))], validation=[('b', (0,))])


def test_segments_are_seconds_by_video(path):
    assert read_segments(path) == dict(
        _a=[(1.0, 2.5), (5.0, 6.5), (9.0, 10.5)], b=[(0.0, 1.5)], c=[], d=[]
    )


@pytest.mark.parametrize(
    ('content', 'match'),
    [
        ('{', 'annotation file, got one that cannot be read'),
        ('[]', 'database'),
        ('{"database": {"x": {"subset": "training"}}}', "video 'x': expected"),
        (
            (
                '{"database": {"x": {"subset": "training", "annotations": '
                '[{"label": "A", "segment": [1]}]}}}'
            ),
            'segment',
        ),
    ],
)
def test_other_files_are_refused(tmp_path, content, match):
    (tmp_path / 'b.json').write_text(content)
    with pytest.raises(ValueError, match=match):
        read_activitynet(tmp_path / 'b.json')


def test_what_is_odd_is_counted(tmp_path):
    release = json.loads(json.dumps(RELEASE))
    first = release['database']['_a']['annotations']
    first[0].update(label='Zumbo')
    first[1]['segment'] = [7.5, 5]
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(release))
    with pytest.warns(UserWarning, match=r"a\.json: 1 labels.*'Zumbo'"):
        classes, _ = read_activitynet(path)
    assert 'Zumbo' in classes
    with pytest.warns(UserWarning, match=r'1 segments end .*\[7\.5, 5'):
        read_segments(path)


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        ('"training"', '"trainin"'),
        ('"Zumba", "segment": [1', '"Zumba", "segment": [NaN'),
        ('"Zumba", "segment": [1', '"Zumba", "segment": ["1"'),
        ('"Zumba"', '7'),
        ('"b":', '"_a":'),
    ],
)
def test_values_that_cannot_be_are_refused(tmp_path, old, new):
    path = tmp_path / 'a.json'
    text = json.dumps(RELEASE)
    assert old in text
    path.write_text(text.replace(old, new, 1))
    for read in (read_activitynet, read_segments):
        with pytest.raises(ValueError, match=rf'{path}: '):
            read(path)

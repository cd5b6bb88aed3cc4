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

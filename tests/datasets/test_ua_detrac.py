"""The dataset: counts, variants, classes, and COCO evaluation of it."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS

import mmskip  # noqa: F401  (mends the host stack before mmdet is imported)
from tests.datasets.releases import sequence_xml

pytest.importorskip('mmdet')

from mmdet.evaluation import CocoMetric

from mmskip.datasets import UADETRACDataset


def build(root, **arguments):
    return UADETRACDataset(data_root=str(root), **arguments)


def infos(dataset):
    return [dataset.get_data_info(i) for i in range(len(dataset))]


def vehicles(info):
    return [i for i in info['instances'] if not i['ignore_flag']]


def test_every_image_is_a_sample_in_order(release, two_sequences):
    dataset = build(release(two_sequences))
    found = infos(dataset)
    assert [(i['video_id'], i['frame_id']) for i in found] == [
        *(('MVI_20011', f) for f in range(4)),
        *(('MVI_20012', f) for f in range(3)),
    ]
    assert [i['img_id'] for i in found] == list(range(7))
    assert {(i['width'], i['height']) for i in found} == {(96, 64)}
    assert [Path(i['img_path']).parts[-2:] for i in found[3:5]] == [
        ('MVI_20011', 'img00004.jpg'),
        ('MVI_20012', 'img00001.jpg'),
    ]


def test_vehicles_are_those_of_the_file(release, two_sequences):
    found = infos(build(release(two_sequences)))
    assert [len(vehicles(i)) for i in found] == [2, 1, 0, 1, 1, 0, 1]
    car, bus = vehicles(found[0])
    assert car['bbox'] == [0, 0, 10, 20]
    assert bus['bbox'] == [30.5, 10, 51, 40]
    assert (car['bbox_label'], bus['bbox_label']) == (0, 2)
    assert (car['instance_id'], bus['instance_id']) == (1, 2)
    # Clipped to the image of 96 x 64.
    assert vehicles(found[3])[0]['bbox'] == [89, 49, 96, 64]


def test_ignored_regions_are_in_every_frame_once_per_class(
    release, two_sequences
):
    found = infos(build(release(two_sequences)))
    for info in found[:4]:
        ignored = [i for i in info['instances'] if i['ignore_flag']]
        assert [i['bbox_label'] for i in ignored] == [0, 1, 2, 3] * 2
        assert ignored[0]['bbox'] == [0, 39, 19.75, 63]
        assert ignored[4]['bbox'] == [59, 0, 89, 10]
    assert not any(
        i['ignore_flag'] for info in found[4:] for i in info['instances']
    )


def test_every_packing_gives_the_same_samples(
    release, two_sequences, tmp_path
):
    reference = infos(build(release(two_sequences)))
    shutil.rmtree(tmp_path / 'Insight-MVT_Annotation_Train')
    shutil.rmtree(tmp_path / 'DETRAC-Train-Annotations-XML')
    root = release(
        two_sequences,
        images='DETRAC-Images/DETRAC-Images',
        annotations='DETRAC-Train-Annotations-XML-v3',
        suffix='_v3',
    )
    again = infos(build(root))
    for one, other in zip(reference, again, strict=True):
        assert one.pop('img_path') != other.pop('img_path')
        assert one == other


def test_fine_types_are_sorted_into_the_four_classes(release):
    types = ['Taxi', 'Sedan', 'MiniVan', 'Bus', 'Truck-Box-Large', 'Police']
    targets = [(n, kind, (10 * n, 1, 5, 5)) for n, kind in enumerate(types, 1)]
    text = sequence_xml('MVI_1', {1: targets})
    root = release({'MVI_1': (text, [1])})
    assert build(root).get_cat_ids(0) == [0, 0, 1, 2, 3, 0]


def test_single_class(release, two_sequences):
    dataset = build(release(two_sequences), single_class=True)
    assert dataset.metainfo['classes'] == ('vehicle',)
    labels = {i['bbox_label'] for d in infos(dataset) for i in d['instances']}
    assert labels == {0}
    meta = dict(classes=('thing',))
    named = build(dataset.data_root, single_class=True, metainfo=meta)
    assert named.metainfo['classes'] == ('thing',)


def test_selected_classes_leave_out_the_others(release, two_sequences):
    dataset = build(
        release(two_sequences), metainfo=dict(classes=('bus', 'car'))
    )
    found = infos(dataset)
    assert [i['bbox_label'] for i in vehicles(found[0])] == [1, 0]
    assert sum(len(vehicles(i)) for i in found) == 3
    assert len(found) == 7


def test_stride_keeps_the_frame_numbers(release, two_sequences):
    found = infos(build(release(two_sequences), frame_stride=2))
    assert [(i['video_id'], i['frame_id']) for i in found] == [
        ('MVI_20011', 0),
        ('MVI_20011', 2),
        ('MVI_20012', 0),
        ('MVI_20012', 2),
    ]
    assert [i['img_id'] for i in found] == [0, 1, 2, 3]
    assert [len(vehicles(i)) for i in found] == [2, 0, 1, 1]


def test_listed_sequences_only(release, two_sequences):
    found = infos(build(release(two_sequences), sequences=['MVI_20012']))
    assert {i['video_id'] for i in found} == {'MVI_20012'}


def test_empty_frames_are_left_out_in_training_if_asked(
    release, two_sequences
):
    root = release(two_sequences)
    cfg = dict(filter_empty_gt=True)
    assert len(build(root, filter_cfg=cfg)) == 5
    assert len(build(root, filter_cfg=cfg, test_mode=True)) == 7
    for size, left in ((64, 7), (65, 0)):
        cfg = dict(min_size=size)
        dataset = build(root, filter_cfg=cfg, serialize_data=False)
        assert len(dataset) == left


def test_it_is_built_from_the_registry(release, two_sequences):
    root = str(release(two_sequences))
    cfg = dict(type='mmskip.UADETRACDataset', data_root=root)
    assert len(DATASETS.build(cfg)) == 7


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(split='val'), "'train' or 'test'"),
        (dict(frame_stride=0), 'frame_stride 1, 2'),
        (dict(sequences='MVI_20011'), 'sequences to be a list'),
        (dict(filter_cfg=dict(min=32)), "got also ['min']"),
        (dict(metainfo=dict(classes=('car', 'tram'))), "['tram']"),
        (dict(metainfo=dict(classes='car')), "('car',)"),
        (
            dict(single_class=True, metainfo=dict(classes=('a', 'b'))),
            'one class name',
        ),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build(tmp_path, **arguments)


@pytest.mark.parametrize(
    ('text', 'numbers', 'error', 'named'),
    [
        (
            sequence_xml('MVI_1', {5: [(1, 'car', (1, 1, 9, 9))]}),
            [1, 2, 3],
            FileNotFoundError,
            'img00004.jpg',
        ),
        (sequence_xml('MVI_2', {}), [1], ValueError, 'MVI_1.xml'),
        (
            sequence_xml('MVI_1', {1: [(1, 'tram', (1, 1, 9, 9))]}),
            [1],
            ValueError,
            'MVI_1.xml',
        ),
        (sequence_xml('MVI_1', {}), [], FileNotFoundError, 'MVI_1'),
        ('<sequence>', [1], ValueError, 'MVI_1.xml'),
    ],
)
def test_annotation_that_does_not_fit_is_refused_by_name(
    release, text, numbers, error, named
):
    with pytest.raises(error, match=re.escape(named)):
        build(release({'MVI_1': (text, numbers)}))


@pytest.mark.parametrize(
    ('frames', 'message'),
    [
        ({}, 'no vehicle is annotated in any of the 2 frames'),
        (
            {1: [(1, 'car', (97, 5, 9, 9)), (2, 'car', (5, 5, 9, 9))]},
            '1 targets lie outside',
        ),
    ],
)
def test_odd_sequences_are_warned_about_by_name(release, frames, message):
    root = release({'MVI_1': (sequence_xml('MVI_1', frames), [1, 2])})
    with pytest.warns(UserWarning, match=re.escape(message)) as record:
        dataset = build(root)
    assert 'MVI_1.xml' in str(record[0].message)
    assert [len(vehicles(i)) for i in infos(dataset)] == [len(frames), 0]


def average_precision(dataset, predictions):
    """COCO AP of ``(box, score, label)`` by sample, ground truth inline."""
    metric = CocoMetric(metric='bbox')
    metric.dataset_meta = dataset.metainfo
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        found = predictions.get(index, [])
        pred = dict(
            bboxes=torch.tensor([f[0] for f in found]).reshape(-1, 4),
            scores=torch.tensor([f[1] for f in found]),
            labels=torch.tensor([f[2] for f in found], dtype=torch.long),
        )
        sample = dict(
            img_id=info['img_id'],
            ori_shape=(info['height'], info['width']),
            instances=info['instances'],
            pred_instances=pred,
        )
        metric.process({}, [sample])
    return metric.evaluate(len(dataset))['coco/bbox_mAP']


@pytest.mark.parametrize('single_class', [False, True])
def test_a_detection_in_an_ignored_region_is_neither_hit_nor_false_alarm(
    release, single_class
):
    """One of two vans is found; the better scored find is elsewhere.

    With 101 recall points of which 51 are reached, AP is 51/101 if that
    find does not count and half of it if it is a false alarm.
    """
    vans = [(1, 'van', (2, 2, 20, 20)), (2, 'van', (41, 2, 20, 20))]
    region = (31, 31, 40, 20)
    label = 0 if single_class else 1
    hit = ([1.0, 1.0, 21.0, 21.0], 0.5, label)
    inside = ([35.0, 32.0, 55.0, 48.0], 0.9, label)
    outside = ([71.0, 5.0, 91.0, 21.0], 0.9, label)
    text = sequence_xml('MVI_1', {1: vans}, ignored=[region])
    root = release({'MVI_1': (text, [1])})
    dataset = build(root, single_class=single_class)
    for found, expected in (
        ([hit], 51 / 101),
        ([hit, inside], 51 / 101),
        ([hit, outside], 51 / 202),
        ([hit, inside, outside], 51 / 202),
    ):
        result = average_precision(dataset, {0: found})
        assert result == pytest.approx(expected, abs=6e-4)


def test_perfect_predictions_have_an_average_precision_of_one(
    release, two_sequences
):
    dataset = build(release(two_sequences))
    perfect = {
        index: [
            (list(map(float, i['bbox'])), 0.9, i['bbox_label'])
            for i in vehicles(info)
        ]
        for index, info in enumerate(infos(dataset))
    }
    assert average_precision(dataset, perfect) == 1.0
    perfect[2] = [([1.0, 1.0, 9.0, 9.0], 0.95, 3)]
    assert average_precision(dataset, perfect) < 1.0


def test_training_sees_ignored_regions_apart_from_vehicles(
    release, two_sequences
):
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='mmdet.LoadAnnotations', with_bbox=True),
        dict(type='mmdet.PackDetInputs'),
    ]
    sample = build(release(two_sequences), pipeline=pipeline)[0][
        'data_samples'
    ]
    assert np.array_equal(sample.gt_instances.labels, [0, 2])
    assert len(sample.ignored_instances) == 8

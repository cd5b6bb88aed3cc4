"""Clips of a stock top-down pose data set, through a stock pipeline."""

import json

import cv2
import numpy as np
import pytest
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, DefaultScope, init_default_scope

from mmskip.datasets import clip_collate

pytest.importorskip('mmpose')

PIPELINE = [
    dict(type='LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='RandomFlip', direction='horizontal'),
    dict(type='RandomHalfBody', prob=0.5),
    dict(type='RandomBBoxTransform'),
    dict(type='TopdownAffine', input_size=(48, 64)),
    dict(
        type='GenerateTarget',
        encoder=dict(
            type='MSRAHeatmap',
            input_size=(48, 64),
            heatmap_size=(12, 16),
            sigma=1,
        ),
    ),
    dict(type='PackPoseInputs'),
]


@pytest.fixture
def release(tmp_path):
    """Two videos, each of four times the same frame with one person."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for video in 'ab':
        (tmp_path / video).mkdir()
        image = rng.integers(0, 255, (80, 96, 3), np.uint8)
        points = rng.integers(20, 60, (17, 2))
        keypoints = np.hstack([points, np.full((17, 1), 2)])
        for frame in range(4):
            name = f'{video}/{frame}.png'
            cv2.imwrite(str(tmp_path / name), image)
            number = len(images) + 1
            images.append(dict(id=number, file_name=name, width=96, height=80))
            annotations.append(
                dict(
                    id=number,
                    image_id=number,
                    category_id=1,
                    iscrowd=0,
                    area=1600,
                    bbox=[20, 20, 40, 40],
                    num_keypoints=17,
                    keypoints=keypoints.ravel().tolist(),
                )
            )
    people = [dict(id=1, name='person')]
    text = dict(images=images, annotations=annotations, categories=people)
    (tmp_path / 'people.json').write_text(json.dumps(text))
    return tmp_path


def build(release, **options):
    options = dict(video_key='img_path') | options
    with DefaultScope.overwrite_default_scope('mmpose'):
        init_default_scope('mmpose')
        return DATASETS.build(
            dict(
                type='mmskip.ClipDataset',
                num_frames=2,
                dataset=dict(
                    type='CocoDataset',
                    data_root=str(release),
                    ann_file='people.json',
                    pipeline=PIPELINE,
                ),
                **options,
            )
        )


def test_frames_of_a_person_are_cut_out_alike(release):
    dataset = build(release)
    assert len(dataset) == 6
    assert dataset.metainfo['num_keypoints'] == 17
    batch = clip_collate([*dataset])
    images = batch['inputs']
    targets = [s.gt_fields.heatmaps for s in batch['data_samples']]
    for first in range(0, 12, 2):
        assert images[first].equal(images[first + 1])
        assert targets[first].equal(targets[first + 1])
    assert not any(images[0].equal(other) for other in images[2::2])


def test_the_batch_has_the_form_of_a_stock_batch(release):
    dataset = build(release)
    stock = pseudo_collate([dataset.dataset[i] for i in range(4)])
    clips = clip_collate([dataset[0], dataset[3]])
    assert {k: [type(v) for v in vs] for k, vs in clips.items()} == {
        k: [type(v) for v in vs] for k, vs in stock.items()
    }


def test_several_persons_in_a_frame_need_a_key_of_their_own(release):
    path = release / 'people.json'
    text = json.loads(path.read_text())
    for entry in text['annotations']:
        entry['frame'] = entry['image_id'] % 4
        entry['video'] = (entry['image_id'] - 1) // 4
        entry['track_id'] = 0
    text['annotations'] += [
        dict(entry, id=entry['id'] + 8, track_id=1)
        for entry in text['annotations']
    ]
    path.write_text(json.dumps(text))
    key = dict(frame_key='raw_ann_info.frame')
    with pytest.raises(ValueError, match='let video_key tell persons apart'):
        build(release, **key)
    keys = ('raw_ann_info.video', 'raw_ann_info.track_id')
    dataset = build(release, video_key=keys, **key)
    assert len(dataset) == 2 * 2 * 3
    for clip in dataset:
        tracks = {f['data_samples'].raw_ann_info['track_id'] for f in clip}
        assert len(tracks) == 1

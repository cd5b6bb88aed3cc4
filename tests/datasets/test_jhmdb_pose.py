"""Samples of JHMDB for mmpose: from the release or JSON, tracks and crops."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import DATASETS, DefaultScope, init_default_scope

pytest.importorskip('mmpose')

from mmpose.datasets import JhmdbDataset

from mmskip.datasets import JHMDBPoseDataset, VideoOrderSampler, clip_collate
from mmskip.datasets.jhmdb_pose_release import read_pose_json
from mmskip.reading import InputError
from tests.datasets.pose_release import J0, write_matrix, write_release

STEPS = [
    dict(type='LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='RandomFlip', direction='horizontal'),
    dict(type='RandomBBoxTransform'),
    dict(type='TopdownAffine', input_size=(32, 32)),
    dict(
        type='PackPoseInputs',
        meta_keys=('video_id', 'frame_id', 'input_center', 'input_scale'),
    ),
]


@pytest.fixture
def root(tmp_path):
    return write_release(tmp_path)


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmpose'):
        init_default_scope('mmpose')
        yield


def build(root, **options):
    options = dict(data_root=str(root), pipeline=[], **options)
    return JHMDBPoseDataset(**options)


def write_json(root, edit=lambda content: None):
    content, _ = read_pose_json(root, 1, 'train')
    edit(content)
    path = root / 'annotations/Sub1_train.json'
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def assert_equal(ours, theirs, but=()):
    assert len(ours) == len(theirs) > 0
    for index in range(len(ours)):
        a, b = ours.get_data_info(index), theirs.get_data_info(index)
        assert set(b) - set(a) == set()
        for key in set(b) - set(but):
            np.testing.assert_equal(a[key], b[key], err_msg=key)


def test_the_release_and_the_json_give_the_same_samples(root):
    write_json(root)
    name = 'annotations/Sub{split}_{subset}.json'
    assert_equal(build(root), build(root, ann_file=name))


def test_the_json_is_read_by_mmpose_with_the_same_result(root):
    write_json(root)
    stock = JhmdbDataset(
        data_root=str(root),
        ann_file='annotations/Sub1_train.json',
        data_prefix=dict(img=''),
        metainfo=JHMDBPoseDataset.METAINFO,
        pipeline=[],
    )
    assert_equal(build(root), stock)


def test_samples_count_pixels_from_zero(root):
    info = build(root).get_data_info(1)
    assert info['keypoints'][0, 4].tolist() == [J0 + 3, J0 + 2]
    assert info['bbox'].tolist() == [[8, 6, 27, 20]]
    assert info['keypoints_visible'].tolist() == [[1] * 15]
    path = Path(info['img_path'])
    assert path == root / 'Rename_Images/golf/v1/00002.png'
    assert path.is_file()
    assert info['video_id'] == 'Rename_Images/golf/v1'
    assert info['frame_id'] == 2


def test_splits_and_subsets_differ(root):
    (root / 'sub_splits/golf_test_split_2.txt').write_text('v1.avi 2\n')
    assert len(build(root, split=1)) == 3 + 4
    assert len(build(root, split=2)) == 4
    assert len(build(root, split=2, subset='test')) == 3 + 5


def test_what_was_left_out_is_told(root, monkeypatch):
    lines = []
    monkeypatch.setattr(
        'mmskip.datasets.jhmdb_pose.print_log',
        lambda line, logger: lines.append(line),
    )
    mask = np.zeros((30, 40, 3), np.uint8)
    mask[3:9, 3:9, 0] = mask[:, 4, 1] = 1  # frame 2: a box without a width
    write_matrix(root, 'puppet_mask', 'golf/v1', part_mask=mask)
    assert len(build(root)) == 1 + 4
    first, second = lines
    assert '1 frames left out, whose mask is empty' in first
    assert '1 of 6 frames left out' in second
    assert 'golf/v1/00002.png' in second


def test_all_frames_of_a_video_may_share_a_crop(root):
    stock, shared = build(root), build(root, crop_span=None)
    for first, stop in ((0, 3), (3, 7)):
        boxes = np.concatenate(
            [stock.get_data_info(i)['bbox'] for i in range(first, stop)]
        )
        low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
        for index in range(first, stop):
            info = shared.get_data_info(index)
            # PCK goes by the box of the frame.
            assert (info['bbox'][0] == boxes[index - first]).all()
            assert (info['bbox_center'][0] == (low + high) / 2).all()
            assert (info['bbox_scale'][0] == high - low).all()


def test_frames_may_share_a_crop_as_long_as_reference_frames_last(root):
    infos = build(root, crop_span=2)
    centers = [infos.get_data_info(i)['bbox_center'][0, 1] for i in range(7)]
    # Boxes go down by a row a frame, from 5..19.
    assert centers == [12.5, 12.5, 14, 12.5, 12.5, 14.5, 14.5]


def test_with_one_crop_what_stands_still_stays_where_it_is(root):
    def clip_of(crop_span):
        config = dict(
            type='mmskip.ClipDataset',
            num_frames=3,
            windows=dict(type='RandomStart'),
            dataset=dict(
                type='mmskip.JHMDBPoseDataset',
                data_root=str(root),
                crop_span=crop_span,
                pipeline=STEPS,
            ),
        )
        batch = clip_collate([DATASETS.build(config)[1]])
        centers = [
            tuple(sample.metainfo['input_center'])
            for sample in batch['data_samples']
        ]
        return batch['inputs'], centers

    images, centers = clip_of(None)
    assert len(set(centers)) == 1
    assert all(image.equal(images[0]) for image in images)
    images, centers = clip_of(1)
    assert len(set(centers)) == 3
    assert not images[1].equal(images[0])


def two_persons(content):
    others = [
        dict(a, id=a['id'] + 10**9, track_id=1) for a in content['annotations']
    ]
    content['annotations'] += others


def test_each_person_of_a_frame_is_a_stream_of_its_own(root):
    write_json(root, two_persons)
    config = dict(ann_file='annotations/Sub1_train.json', test_mode=True)
    dataset = build(root, **config)
    dataset.pipeline.transforms = build_steps()
    assert len(dataset) == 2 * 7
    order = list(VideoOrderSampler(dataset))
    batch = dict(data_samples=[dataset[i]['data_samples'] for i in order])
    ids = [s.metainfo['video_id'] for s in batch['data_samples']]
    video = 'Rename_Images/golf/v1'
    assert ids[:6] == [f'{video}#0'] * 3 + [f'{video}#1'] * 3
    frames = [s.metainfo['frame_id'] for s in batch['data_samples']]
    assert frames[:6] == [1, 2, 3] * 2
    assert sum(a != b for a, b in itertools.pairwise(ids)) == 3


def build_steps():
    return Compose([STEPS[0], STEPS[1], STEPS[4], STEPS[5]]).transforms


def test_persons_that_cannot_be_told_apart_are_refused(root):
    def edit(content):
        two_persons(content)
        for annotation in content['annotations']:
            del annotation['track_id']

    write_json(root, edit)
    with pytest.raises(ValueError, match=r'Sub1_train\.json: expected track_'):
        build(root, ann_file='annotations/Sub1_train.json')


def test_bad_input_is_refused(root):
    with pytest.raises(ValueError, match='expected crop_span 1'):
        build(root, crop_span=0)
    with pytest.raises(FileNotFoundError, match=r'none\.json: expected ann'):
        build(root, ann_file='none.json')

    def edit(content):
        content['images'][0]['file_name'] = 'golf.png'

    write_json(root, edit)
    with pytest.raises(
        ValueError, match=r'images, entry 1: expected .* file_name'
    ):
        build(root, ann_file='annotations/Sub1_train.json')


@pytest.mark.parametrize(
    ('kind', 'change'),
    [
        ('images', dict(width=0)),
        ('images', dict(id='7')),
        ('images', dict(file_name=None)),
        ('annotations', dict(bbox=[1, 2, 3])),
        ('annotations', dict(bbox=None)),
        ('annotations', dict(bbox=[1, 2, float('nan'), 4])),
        ('annotations', dict(keypoints=[1.0] * 44)),
        ('annotations', dict(image_id=7)),
        ('annotations', dict(track_id=[1])),
    ],
)
def test_entries_that_cannot_be_are_refused(root, kind, change):
    write_json(root, lambda content: content[kind][1].update(change))
    with pytest.raises(InputError, match=r'Sub1_train\.json'):
        build(root, ann_file='annotations/Sub1_train.json')


@pytest.mark.parametrize('kind', ['images', 'annotations'])
def test_ids_are_unique(root, kind):
    """Of two entries mmpose would take the second one twice."""

    def edit(content):
        content[kind][1]['id'] = content[kind][0]['id']

    write_json(root, edit)
    with pytest.raises(InputError, match=rf'{kind}, entry 2: .* id once'):
        build(root, ann_file='annotations/Sub1_train.json')

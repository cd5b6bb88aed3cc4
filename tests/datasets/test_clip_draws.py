"""All frames of a clip see the same random choices."""

import random

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope, init_default_scope

from mmskip.datasets import ClipDataset
from mmskip.datasets.clip_draws import find_transforms
from tests.datasets.clips import Draws, Frames, Pack

pytest.importorskip('mmdet')
pytest.importorskip('mmpose')

from mmcv.transforms import BaseTransform, Compose
from mmcv.transforms.utils import avoid_cache_randomness, cache_randomness
from mmdet.structures.bbox import HorizontalBoxes

NUMBERS = np.random.default_rng(0)
IMAGE = NUMBERS.integers(0, 255, (48, 64, 3), np.uint8)
KEYPOINTS = NUMBERS.uniform(4, 44, (1, 6, 2)).astype(np.float32)
CROPS = dict(crop_size=(24, 32), crop_type='absolute')
DETECTION = [
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomResize', scale=[(60, 45), (120, 90)], keep_ratio=True),
    dict(
        type='RandomChoiceResize',
        scales=[(32, 24), (64, 48), (80, 60), (96, 72)],
        keep_ratio=True,
    ),
    dict(type='RandomCrop', allow_negative_crop=True, **CROPS),
    dict(type='RandomCrop', crop_size=(0.3, 0.3), crop_type='relative_range'),
    dict(type='PhotoMetricDistortion'),
    dict(type='Expand', mean=[0, 0, 0], prob=0.5),
    dict(type='RandomShift', prob=0.5),
    dict(type='RandomAffine'),
    dict(type='YOLOXHSVRandomAug'),
    dict(type='RandomErasing', n_patches=(1, 3), ratio=0.2),
    dict(type='CutOut', n_holes=(1, 3), cutout_shape=[(4, 4), (8, 8)]),
    dict(type='RandAugment', aug_num=1),
    dict(
        type='RandomApply',
        transforms=[dict(type='RandomCrop', **CROPS)],
        prob=0.5,
    ),
    dict(
        type='RandomChoice',
        transforms=[
            [dict(type='RandomFlip', prob=1.0)],
            [dict(type='RandomCrop', **CROPS), dict(type='RandomShift')],
        ],
    ),
]
POSE = [
    dict(type='RandomFlip', direction='horizontal'),
    dict(type='RandomBBoxTransform'),
    dict(type='RandomHalfBody', prob=0.5, min_total_keypoints=4),
    dict(type='PhotometricDistortion'),
    dict(type='YOLOXHSVRandomAug'),
]


def load(results):
    """The same image with the same objects, whatever the frame."""
    centre = np.array([[30.0, 24.0]], np.float32)
    return dict(
        results,
        img=IMAGE.copy(),
        img_shape=IMAGE.shape[:2],
        ori_shape=IMAGE.shape[:2],
        gt_bboxes=HorizontalBoxes(torch.tensor([[20.0, 12.0, 44.0, 36.0]])),
        gt_bboxes_labels=np.array([1]),
        gt_ignore_flags=np.array([False]),
        keypoints=KEYPOINTS.copy(),
        keypoints_visible=np.ones((1, 6), np.float32),
        bbox_center=centre,
        bbox_scale=centre * 1.0,
        flip_indices=[1, 0, 3, 2, 5, 4],
        upper_body_ids=[0, 1, 2],
        lower_body_ids=[3, 4, 5],
    )


def look(results):
    """What came out, as comparable values."""
    keys = ('img', 'keypoints', 'bbox_center', 'bbox_scale', 'bbox_rotation')
    return (
        *(np.asarray(results.get(key, 0)).tobytes() for key in keys),
        results['img_shape'],
        results['gt_bboxes'].tensor.numpy().tobytes(),
    )


def run(transform, scope, clips=12, num_frames=3):
    with DefaultScope.overwrite_default_scope(scope):
        init_default_scope(scope)
        frames = Frames([num_frames] * clips, pipeline=[load, transform, look])
    return [*ClipDataset(frames, num_frames)]


@pytest.mark.parametrize(
    ('transform', 'scope'),
    [(t, 'mmdet') for t in DETECTION] + [(t, 'mmpose') for t in POSE],
    ids=lambda value: value if isinstance(value, str) else value['type'],
)
def test_stock_transforms_treat_frames_alike_and_clips_differently(
    transform, scope
):
    clips = run(transform, scope)
    assert all(len(set(clip)) == 1 for clip in clips)
    assert len({clip[0] for clip in clips}) > 1


class Greedy(BaseTransform):
    """Draws more numbers the later the frame is."""

    def transform(self, results):
        for _ in range(results['frame_id']):
            random.random(), np.random.rand(), torch.rand(2)  # noqa: NPY002
        return results


class Mixed(BaseTransform):
    """Draws beside a marked method, and changes what that returned."""

    @cache_randomness
    def marked(self):
        return np.random.rand(2)  # noqa: NPY002

    def transform(self, results):
        values = self.marked()
        values += random.random()
        # More than once per image, which mmcv's own context refuses.
        results['drawn'] = (*values, *self.marked(), float(torch.rand(())))
        return results


def drawn(dataset):
    return [
        [(f['data_samples'].get('drawn'), *f['inputs'].tolist()) for f in clip]
        for clip in dataset
    ]


@pytest.mark.parametrize(
    'pipeline',
    [
        [Greedy(), Mixed(), Draws()],
        [Compose([Greedy(), Mixed()]), Draws()],
        [Mixed(), Greedy(), Draws()],
    ],
    ids=['flat', 'nested', 'marked first'],
)
def test_what_a_transform_draws_is_no_concern_of_the_others(pipeline):
    clips = drawn(ClipDataset(Frames([3] * 4, pipeline=pipeline), 3))
    assert all(len(set(clip)) == 1 for clip in clips)
    assert len({clip[0] for clip in clips}) == 4
    (marked, *plain), *_ = clips[0]
    assert len({*marked, *plain}) == 8


def test_two_transforms_of_one_kind_draw_different_numbers():
    def keep(results):
        results['first'] = results['drawn']
        return results

    dataset = ClipDataset(
        Frames([2], pipeline=[Mixed(), keep, Mixed(), Pack()]), 2
    )
    sample = dataset[0][0]['data_samples']
    assert not set(sample.first) & set(sample.drawn)


def test_the_random_numbers_of_the_process_stay_as_they_were():
    dataset = ClipDataset(Frames([3], pipeline=[Mixed(), Draws()]), 3)
    random.seed(1)
    expected = random.random()
    random.seed(1)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    dataset[0]
    assert random.random() == expected
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


def test_transforms_are_given_back_as_they_were_even_after_an_error():
    def fail(results):
        raise OSError('no such image')

    dataset = ClipDataset(Frames([2], pipeline=[Mixed(), Pack()]), 2)
    broken = ClipDataset(Frames([2], pipeline=[Mixed(), fail]), 2)
    before = [
        dict(vars(transform))
        for each in (dataset, broken)
        for transform in find_transforms(each.dataset).values()
    ]
    dataset[0]
    with pytest.raises(OSError, match='no such image'):
        broken[0]
    assert before == [
        vars(transform)
        for each in (dataset, broken)
        for transform in find_transforms(each.dataset).values()
    ]


@pytest.mark.parametrize(
    ('transform', 'scope', 'reason'),
    [
        (dict(type='Mosaic'), 'mmdet', 'mixes other samples'),
        (dict(type='MixUp'), 'mmdet', 'mixes other samples'),
        (dict(type='CachedMosaic'), 'mmdet', 'mixes other samples'),
        (dict(type='CopyPaste'), 'mmdet', 'mixes other samples'),
        (dict(type='YOLOXMixUp'), 'mmpose', 'mixes other samples'),
        (dict(type='MinIoURandomCrop'), 'mmdet', 'chooses by the image'),
        (
            dict(
                type='RandomApply',
                transforms=[dict(type='MinIoURandomCrop')],
            ),
            'mmdet',
            'chooses by the image',
        ),
    ],
    ids=str,
)
def test_transforms_that_cannot_be_shared_are_named(transform, scope, reason):
    inner = transform.get('transforms', [transform])[0]['type']
    message = f'got {inner}, which {reason}.*; remove it from the pipeline'
    with pytest.raises(ValueError, match=message):
        run(transform, scope)


def test_transforms_marked_as_not_to_be_shared_are_named():
    @avoid_cache_randomness
    class Unshared(BaseTransform):
        def transform(self, results):
            return results

    with pytest.raises(ValueError, match='got Unshared, which chooses'):
        ClipDataset(Frames([2], pipeline=[Unshared()]), 2)
    dataset = ClipDataset(Frames([2]), 2)
    with pytest.raises(ValueError, match='got Unshared'):
        dataset.pipeline = Compose([Unshared()])

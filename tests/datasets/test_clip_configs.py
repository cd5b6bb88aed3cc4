"""The fragments of data sets that are seen in clips (VA-RED^2)."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config

pytest.importorskip('mmaction')

from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS as ENGINE_TRANSFORMS
from mmengine.registry import DefaultScope

from mmskip.registry import DATASETS

CONFIGS = Path(__file__).parents[2] / 'configs/_base_/datasets'
CLASSES = dict(kinetics400=400, mini_kinetics=200, moments_in_time=339)
# Side of the input and distance of the frames.
SIZES = {'': (256, 4), '_128': (128, 4), '_16x5': (256, 5)}


@pytest.fixture(params=[(d, s) for d in CLASSES for s in SIZES], ids=''.join)
def case(request):
    return request.param


@pytest.fixture
def cfg(case):
    data, size = case
    cfg = Config.fromfile(CONFIGS / f'{data}_clips{size}.py')
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield cfg


def steps(cfg, part, kind):
    pipeline = cfg[f'{part}_dataloader'].dataset.pipeline
    return [step for step in pipeline if step.type == kind]


@pytest.mark.parametrize('part', ['train', 'val', 'test'])
def test_clips_of_the_size_and_the_labels(cfg, case, part):
    data, size = case
    side, interval = SIZES[size]
    dataset = cfg[f'{part}_dataloader'].dataset
    assert dataset.num_classes == CLASSES[data]
    assert dataset.data_root == f'data/{data}/'
    assert DATASETS.get(dataset.type)
    (sample,) = steps(cfg, part, 'SampleFrames')
    assert (sample.clip_len, sample.frame_interval) == (16, interval)
    assert steps(cfg, part, 'Resize')[0].scale == (-1, side)
    for step in dataset.pipeline:
        ENGINE_TRANSFORMS.build(dict(step))


def test_views_in_test_are_k_left_centre_right(cfg, case):
    clips = 3 if case[0] == 'moments_in_time' else 10
    (sample,) = steps(cfg, 'test', 'SampleFrames')
    assert (sample.num_clips, sample.test_mode) == (clips, True)
    (crop,) = steps(cfg, 'test', 'ThreeCrop')
    assert crop.crop_size == SIZES[case[1]][0]
    accuracy, _ = cfg.test_evaluator
    assert accuracy.get('num_crops', 3) == 3


def test_validation_sees_one_view(cfg, case):
    (sample,) = steps(cfg, 'val', 'SampleFrames')
    assert (sample.num_clips, sample.test_mode) == (1, True)
    assert steps(cfg, 'val', 'CenterCrop')
    assert cfg.val_evaluator[0].num_crops == 1


def frames(cfg, part, clips):
    """What a pipeline makes of decoded frames, wider than high."""
    pipeline = cfg[f'{part}_dataloader'].dataset.pipeline
    images = [np.zeros((90, 160, 3), np.uint8)] * (16 * clips)
    seen = dict(
        imgs=images,
        clip_len=16,
        num_clips=clips,
        original_shape=(90, 160),
        img_shape=(90, 160),
        modality='RGB',
        label=0,
    )
    return Compose(pipeline[3:])(seen)['inputs']


@pytest.mark.parametrize('part', ['train', 'val'])
def test_a_view_has_the_size(cfg, case, part):
    side = SIZES[case[1]][0]
    assert frames(cfg, part, 1).shape == (1, 3, 16, side, side)


def test_moments_has_nine_views_of_a_video():
    cfg = Config.fromfile(CONFIGS / 'moments_in_time_clips_128.py')
    with DefaultScope.overwrite_default_scope('mmaction'):
        assert frames(cfg, 'test', 3).shape == (9, 3, 16, 128, 128)

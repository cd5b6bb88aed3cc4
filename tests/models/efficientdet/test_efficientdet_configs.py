"""The configs for UA-DETRAC: what a frame meets on its way."""

from pathlib import Path

import pytest
from mmengine.config import Config

pytest.importorskip('mmdet')

from mmskip.models import BiFPN, EfficientDetHead
from tests.models.efficientdet.detectors import SIZES

FOLDER = Path(__file__).parents[3] / 'configs/skip_conv/detection'


@pytest.fixture(params=SIZES, scope='module')
def name(request):
    return request.param


@pytest.fixture(scope='module')
def cfg(name):
    return Config.fromfile(FOLDER / f'efficientdet_{name}_ua-detrac.py')


def test_sizes_are_the_published_ones(cfg, name):
    size, model = SIZES[name], cfg.model
    assert model.neck.type == f'mmskip.{BiFPN.__name__}'
    assert model.bbox_head.type == f'mmskip.{EfficientDetHead.__name__}'
    assert model.backbone.arch == size.arch
    assert model.neck.in_channels == list(size.in_channels)
    assert model.neck.num_repeats == size.num_repeats
    assert model.bbox_head.stacked_convs == size.stacked_convs
    assert model.neck.out_channels == size.channels
    assert model.bbox_head.in_channels == size.channels


def test_frames_become_squares_of_the_published_side(cfg, name):
    side = SIZES[name].input_size
    assert cfg.model.data_preprocessor.pad_size_divisor == side
    loaders = cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader
    for loader in loaders:
        steps = {step.type: step for step in loader.dataset.pipeline}
        assert tuple(steps['Resize'].scale) == (side, side)
        assert 'scale_factor' not in steps['Resize']


def test_training_is_the_papers_as_far_as_it_is_known(cfg, name):
    kinds = [step.type for step in cfg.train_dataloader.dataset.pipeline]
    assert kinds == [
        'LoadImageFromFile',
        'LoadAnnotations',
        'Resize',
        'RandomFlip',
        'PackDetInputs',
    ]
    assert cfg.optim_wrapper.optimizer.type == 'SGD'
    assert cfg.load_from == f'checkpoints/efficientdet_{name}_coco.pth'
    assert cfg.model.bbox_head.num_classes == len(cfg.classes) == 4

"""EfficientDets: the published ones, and one small enough for a test."""

from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import MODELS

BASE = Path(__file__).parents[3] / 'configs/_base_/models/efficientdet_d0.py'


class Size(NamedTuple):
    """A row of the published compound scaling.

    Attributes:
        gmacs: Published cost; the paper calls it FLOPs.
        params: Published millions of parameters.
    """

    arch: str
    in_channels: tuple
    channels: int
    num_repeats: int
    stacked_convs: int
    input_size: int
    gmacs: float
    params: float


SIZES = dict(
    d0=Size('b0', (40, 112, 320), 64, 3, 3, 512, 2.5, 3.9),
    d1=Size('b1', (40, 112, 320), 88, 4, 3, 640, 6.1, 6.6),
    d2=Size('b2', (48, 120, 352), 112, 5, 3, 768, 11.0, 8.1),
    d3=Size('b3', (48, 136, 384), 160, 6, 4, 896, 25.0, 12.0),
)


def config(size=SIZES['d0'], num_classes=90):
    cfg = Config.fromfile(BASE).model
    cfg.data_preprocessor.pad_size_divisor = size.input_size
    cfg.backbone.arch = size.arch
    cfg.neck.update(
        in_channels=list(size.in_channels),
        out_channels=size.channels,
        num_repeats=size.num_repeats,
    )
    cfg.bbox_head.update(
        num_classes=num_classes,
        in_channels=size.channels,
        stacked_convs=size.stacked_convs,
    )
    return cfg


def tiny_config():
    """EfficientNet-B0 has no smaller sister; the rest is small."""
    tiny = SIZES['d0']._replace(
        channels=16, num_repeats=2, stacked_convs=2, input_size=64
    )
    cfg = config(tiny, num_classes=2)
    cfg.backbone.drop_path_rate = 0.0
    cfg.test_cfg.update(score_thr=0.0, nms_pre=50, max_per_img=5)
    return cfg


def build(cfg):
    """Build in mmdet's scope, initialised."""
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    return model

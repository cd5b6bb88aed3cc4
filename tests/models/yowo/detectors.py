"""Small YOWOs and their samples."""

from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torch import nn

CONFIGS = Path(__file__).parents[3] / 'configs'
FOLDER = CONFIGS / 'va_red2/localization'
CONFIG = CONFIGS / 'toy/yowo_r2plus1d_r18-w12_1xb8-8x1-12e_toy-jhmdb.py'


class TinyBackbone(nn.Module):
    """Two convolutions of stride 16 in space and 2 in time."""

    def __init__(self, levels=False, collapse=False):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv3d(3, 8, 3, (2, 4, 4), 1), nn.BatchNorm3d(8), nn.ReLU()
        )
        self.head = nn.Conv3d(8, 8, (1, 3, 3), (1, 4, 4), (0, 1, 1))
        self.levels = levels
        self.collapse = collapse

    def train(self, mode=True):
        """Returns nothing, like that of mmaction2's X3D."""
        super().train(mode)

    def forward(self, clips):
        features = self.conv(clips)
        last = self.head(features)
        if self.collapse:
            last = last.mean(2)
        return (features, last) if self.levels else last


class TinyKeyBackbone(nn.Module):
    def __init__(self, stride=16):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride, 1)

    def forward(self, images):
        return (self.conv(images),)


def build(backbone=None, channels=(8, 8), **options):
    """The toy config's YOWO on a tiny backbone."""
    cfg = Config.fromfile(CONFIG).model
    cfg.update(options)
    cfg.neck.update(in_channels=channels, channels=16)
    cfg.bbox_head.update(in_channels=[16], out_channels=[16])
    backbone = backbone or TinyBackbone()
    cfg.backbone = ConfigDict(type=lambda: backbone)
    model = MODELS.build(cfg)
    model.init_weights()
    return model


def data(count=2, boxes=((20.0, 30.0, 44.0, 76.0),), label=3, size=(96, 128)):
    """A batch as a dataloader gives it: clips of 8 frames."""
    from mmaction.structures import ActionDataSample

    samples = []
    for index in range(count):
        sample = ActionDataSample()
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(boxes).view(-1, 4),
            labels=torch.full((len(boxes),), label),
        )
        sample.set_metainfo(
            dict(
                img_shape=size,
                scale_factor=(2.0, 0.5),
                video_id=f'v{index}',
            )
        )
        samples.append(sample)
    clips = [
        torch.randint(0, 256, (3, 8, *size), dtype=torch.uint8)
        for _ in range(count)
    ]
    return dict(inputs=clips, data_samples=samples)

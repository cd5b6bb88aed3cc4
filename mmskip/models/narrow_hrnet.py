"""HRNets with few channels, for machines of few cores and for tests."""

from typing import Any

from mmcv.cnn import build_conv_layer, build_norm_layer
from mmpose.models import HRNet
from mmpose.models.backbones.resnet import get_expansion

from mmskip.registry import MODELS


@MODELS.register_module()
class NarrowHRNet(HRNet):
    """mmpose's HRNet with a stem to choose; its own has 64 channels.

    Args:
        extra: Stages, see mmpose's ``HRNet``.
        stem_channels: Channels of the first two layers.
        **options: Further ones of mmpose's ``HRNet``; no pretrained weights
            fit.

    Raises:
        ValueError: ``stem_channels`` is not a positive int.
    """

    def __init__(
        self, extra: dict, stem_channels: int = 16, **options: Any
    ) -> None:
        if not isinstance(stem_channels, int) or stem_channels < 1:
            raise ValueError(
                'expected stem_channels to be a positive int, got '
                f'{stem_channels!r}'
            )
        super().__init__(extra, **options)
        for number, inputs in (
            (1, self.conv1.in_channels),
            (2, stem_channels),
        ):
            conv = build_conv_layer(
                self.conv_cfg,
                inputs,
                stem_channels,
                kernel_size=3,
                stride=2,
                padding=1,
                bias=False,
            )
            name, norm = build_norm_layer(
                self.norm_cfg, stem_channels, postfix=number
            )
            setattr(self, f'conv{number}', conv)
            setattr(self, name, norm)
        block = self.blocks_dict[self.stage1_cfg['block']]
        channels = self.stage1_cfg['num_channels'][0] * get_expansion(block)
        blocks = self.stage1_cfg['num_blocks'][0]
        self.layer1 = self._make_layer(block, stem_channels, channels, blocks)
        self._freeze_stages()

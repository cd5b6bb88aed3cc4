"""ResNets of few channels, for machines of few cores and for tests."""

from typing import Any

import torch
from mmaction.models import ResNet
from mmaction.models.backbones.resnet import make_res_layer
from mmcv.cnn import ConvModule

from mmskip.registry import MODELS


@MODELS.register_module()
class NarrowResNet(ResNet):
    """mmaction2's ResNet with a width to choose; its own is fixed at 64.

    Args:
        depth: 18, 34, 50, 101 or 152.
        base_channels: Channels of the stem; those of the stages grow with
            them.
        **options: Further ones of mmaction2's ``ResNet``; no pretrained
            weights fit.

    Raises:
        ValueError: ``base_channels`` is not a positive int.
    """

    def __init__(
        self, depth: int, base_channels: int = 16, **options: Any
    ) -> None:
        if not isinstance(base_channels, int) or base_channels < 1:
            raise ValueError(
                'expected base_channels to be a positive int, got '
                f'{base_channels!r}'
            )
        with torch.device('meta'):  # all its layers are replaced below
            super().__init__(depth, **options)
        block_options = dict(
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
        )
        self.conv1 = ConvModule(
            self.in_channels,
            base_channels,
            kernel_size=7,
            stride=2,
            padding=3,
            bias=False,
            **block_options,
        )
        self.inplanes = base_channels
        for index, (name, blocks) in enumerate(
            zip(self.res_layers, self.stage_blocks, strict=True)
        ):
            planes = base_channels * 2**index
            layer = make_res_layer(
                self.block,
                self.inplanes,
                planes,
                blocks,
                stride=self.strides[index],
                dilation=self.dilations[index],
                style=self.style,
                with_cp=self.with_cp,
                **block_options,
            )
            setattr(self, name, layer)
            self.inplanes = self.feat_dim = planes * self.block.expansion

"""I3D on Inception-V2 (BN-Inception), which mmaction2 lacks.

Kernels and widths are those of S. Ioffe and C. Szegedy, "Batch
normalization", ICML 2015, Figure 5; inflated as in J. Carreira and A.
Zisserman, "Quo vadis, action recognition?", CVPR 2017, and S. Xie et al.,
"Rethinking spatiotemporal feature learning", ECCV 2018: every k x k kernel
but 1 x 1 becomes k x k x k.
"""

from typing import NamedTuple

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmskip.options import check_least
from mmskip.registry import MODELS


class Widths(NamedTuple):
    """Channels of the branches of a block; 0: there is no such layer.

    Attributes:
        single: 1x1x1 convolution.
        reduce: 1x1x1 before the 3x3x3 convolution.
        triple: 3x3x3 convolution.
        double_reduce: 1x1x1 before the two 3x3x3 convolutions.
        double: Both of these.
        pool: 1x1x1 behind the pooling.
    """

    single: int
    reduce: int
    triple: int
    double_reduce: int
    double: int
    pool: int


# Block, its widths and its pooling. 3c and 4e halve the image.
BLOCKS = {
    '3a': (Widths(64, 64, 64, 64, 96, 32), 'avg'),
    '3b': (Widths(64, 64, 96, 64, 96, 64), 'avg'),
    '3c': (Widths(0, 128, 160, 64, 96, 0), 'max'),
    '4a': (Widths(224, 64, 96, 96, 128, 128), 'avg'),
    '4b': (Widths(192, 96, 128, 96, 128, 128), 'avg'),
    '4c': (Widths(160, 128, 160, 128, 160, 96), 'avg'),
    '4d': (Widths(96, 128, 192, 160, 192, 96), 'avg'),
    '4e': (Widths(0, 128, 192, 192, 256, 0), 'max'),
    '5a': (Widths(352, 192, 320, 160, 224, 128), 'avg'),
    '5b': (Widths(352, 192, 320, 192, 224, 128), 'max'),
}


class InceptionBlock(nn.Module):
    """Branches side by side, their features one after another.

    Args:
        in_channels: Channels of the input.
        widths: Channels of the branches; without a ``single`` one the block
            halves the image.
        pool: ``'avg'`` or ``'max'``.
        temporal_stride: Stride in time of a block that halves the image.
        layer: Options of every ``ConvModule``.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Widths,
        pool: str,
        temporal_stride: int,
        layer: dict,
    ) -> None:
        super().__init__()
        stride = 1 if widths.single else (temporal_stride, 2, 2)

        def conv(inputs: int, outputs: int, size: int = 1, step=1):
            return ConvModule(inputs, outputs, size, step, size // 2, **layer)

        branches = [
            nn.Sequential(
                conv(in_channels, widths.reduce),
                conv(widths.reduce, widths.triple, 3, stride),
            ),
            nn.Sequential(
                conv(in_channels, widths.double_reduce),
                conv(widths.double_reduce, widths.double, 3),
                conv(widths.double, widths.double, 3, stride),
            ),
            _pool(pool, stride),
        ]
        if widths.single:
            branches.insert(0, conv(in_channels, widths.single))
            branches[-1].append(conv(in_channels, widths.pool))
        self.branches = nn.ModuleList(branches)
        self.out_channels = (
            widths.single
            + widths.triple
            + widths.double
            + (widths.pool or in_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Compute features (B, C', T', H', W') of ``x`` (B, C, T, H, W)."""
        return torch.cat([branch(x) for branch in self.branches], 1)


@MODELS.register_module()
class I3DInceptionV2(BaseModule):
    """Inflated BN-Inception.

    Neither paper names the temporal strides on Inception-V2. The default is
    the reading nearest to the VA-RED^2 thesis' 56.0 GMAC for 16 frames of
    256x256 (Table 4.2): a stem of 5x7x7 with temporal stride 2, as in
    mmaction2's I3D-R50, and no stride afterwards, with 55.4. A stem of 7x7x7
    does 57.8, and with the strides of Carreira and Zisserman's Inception-V1
    behind it (``temporal_strides=(2, 2, 2)``) 43.1. No reading gives 56.0.

    Args:
        stem_frames: Temporal extent of the first kernel, odd.
        temporal_strides: Strides in time of stem, block 3c and block 4e.
        width: Factor of all channels; ours, for machines of few cores.
        norm_cfg: Norm layer behind each convolution.
        act_cfg: Activation behind it.
        init_cfg: Initialisation, see mmengine's ``BaseModule``.

    Raises:
        ValueError: ``stem_frames`` is even, there are not three strides, or
            ``width`` is not positive.
    """

    def __init__(
        self,
        stem_frames: int = 5,
        temporal_strides: tuple[int, int, int] = (2, 1, 1),
        width: float = 1.0,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg or [dict(type='Kaiming', layer='Conv3d')])
        check_least(1, stem_frames=stem_frames)
        if stem_frames % 2 == 0 or len(temporal_strides) != 3 or width <= 0:
            raise ValueError(
                'expected an odd stem_frames, three temporal_strides and a '
                f'positive width, got {stem_frames!r}, {temporal_strides!r} '
                f'and {width!r}'
            )
        layer = dict(
            conv_cfg=dict(type='Conv3d'),
            norm_cfg=norm_cfg or dict(type='BN3d'),
            act_cfg=act_cfg or dict(type='ReLU'),
        )

        def scaled(channels: int) -> int:
            return max(1, round(channels * width)) if channels else 0

        first, *others = temporal_strides
        stem = (scaled(64), scaled(192))
        self.stem = nn.Sequential(
            ConvModule(
                3,
                stem[0],
                (stem_frames, 7, 7),
                (first, 2, 2),
                (stem_frames // 2, 3, 3),
                **layer,
            ),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            ConvModule(stem[0], stem[0], 1, **layer),
            ConvModule(stem[0], stem[1], 3, padding=1, **layer),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        )
        strides = dict(zip(('3c', '4e'), others, strict=True))
        self.blocks = nn.ModuleDict()
        channels = stem[1]
        for name, (widths, pool) in BLOCKS.items():
            block = InceptionBlock(
                channels,
                Widths(*map(scaled, widths)),
                pool,
                strides.get(name, 1),
                layer,
            )
            self.blocks[name] = block
            channels = block.out_channels
        self.feat_dim = channels  # 1024

    def forward(self, x: Tensor) -> Tensor:
        """Compute features (B, 1024, T', H/32, W/32) of (B, 3, T, H, W)."""
        x = self.stem(x)
        for block in self.blocks.values():
            x = block(x)
        return x


def _pool(kind: str, stride: int | tuple[int, int, int]) -> nn.Sequential:
    """Pool 3x3x3. AvgPool3d pads, too, but wants three frames before."""
    if kind == 'max':
        return nn.Sequential(nn.MaxPool3d(3, stride, 1))
    return nn.Sequential(nn.ConstantPad3d(1, 0.0), nn.AvgPool3d(3, stride))

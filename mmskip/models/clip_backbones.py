"""Backbones for mmaction2: of clips as in VA-RED^2, and a narrow ResNet.

R(2+1)D, CorrNet and X3D are as VA-RED^2 uses them, and so is I3D on
Inception-V2 (BN-Inception), which mmaction2 lacks; ResNets of few channels
are for machines of few cores and for tests.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmaction.models import X3D, ResNet, ResNet2Plus1d
from mmaction.models.backbones.resnet import make_res_layer
from mmaction.models.backbones.x3d import BlockX3D
from mmcv.cnn import ConvModule, build_activation_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmskip.core import CountedWhole
from mmskip.options import check_least, check_options
from mmskip.registry import MODELS


@check_options
class Correlation(CountedWhole):
    """Learnable, groupwise correlation of each frame with the one before.

    For a displacement d of K x K, position p, frame t and group g::

        y[g, d, t, p] = sum_{c in g} w[c, t, d] x[c, t-1, p] x[c, t, p + d]

    The first frame meets itself, so that T frames remain. Filters begin as
    ones, the correlation of FlowNet (ours; the paper does not say).

    Args:
        channels: C.
        num_frames: T.
        patch_size: K, odd.
        groups: G, a divisor of C.
        dilation: Step between displacements.

    Raises:
        ValueError: An option is out of range.
    """

    def __init__(
        self,
        channels: int,
        num_frames: int,
        patch_size: int = 7,
        groups: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        if patch_size < 1 or patch_size % 2 == 0:
            raise ValueError(
                'expected patch_size to be an odd positive int, got '
                f'{patch_size!r}'
            )
        check_least(1, dilation=dilation)
        if groups < 1 or channels % groups:
            raise ValueError(
                f'expected groups to divide {channels} channels, got '
                f'{groups!r}'
            )
        self.patch_size = patch_size
        self.groups = groups
        self.dilation = dilation
        self.out_channels = groups * patch_size**2
        self.weight = nn.Parameter(
            torch.ones(patch_size**2, channels, num_frames, 1, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Correlate.

        Args:
            x: (B, C, T, H, W).

        Returns:
            (B, K*K*G, T, H, W).

        Raises:
            ValueError: The clip has not T frames.
        """
        _, channels, num_frames, height, width = x.shape
        if num_frames != self.weight.shape[2]:
            raise ValueError(
                f'expected {self.weight.shape[2]} frames, for which the '
                f'correlation has filters, got {num_frames}; set num_frames '
                'of the backbone to the length of the clips'
            )
        if self._ledger is not None:
            # A term is a product of three: two multiplications.
            macs = 2 * self.patch_size**2 * x.numel()
            self._ledger.record(self, macs, macs)
        before = torch.cat([x[:, :, :1], x[:, :, :-1]], 2)
        reach = self.dilation * (self.patch_size // 2)
        padded = F.pad(x, (reach,) * 4)
        steps = range(0, 2 * reach + 1, self.dilation)
        shifted = (
            padded[..., top : top + height, left : left + width]
            for top in steps
            for left in steps
        )
        maps = [
            (weight * before * there)
            .unflatten(1, (self.groups, channels // self.groups))
            .sum(2)
            for weight, there in zip(self.weight, shifted, strict=True)
        ]
        return torch.cat(maps, 1)


@check_options
class CorrelationBlock(nn.Module):
    """Correlation-sum block: what moved is added to the features.

    A 1x1x1 convolution to a quarter of the channels, the correlation, and a
    1x1x1 convolution back (section 4, with K = 7 and G = 32). Where a quarter
    of the channels are fewer than G, each is a group of its own; so counted,
    Table 4.4 of the VA-RED^2 thesis is met.

    Args:
        channels: C, a multiple of 4.
        num_frames: T.
        patch_size: K.
        groups: G.
        dilation: Step between displacements.
        norm_cfg: Norm layer behind each convolution.

    Raises:
        ValueError: ``channels`` is not a multiple of 4, or an option is out
            of range.
    """

    def __init__(
        self,
        channels: int,
        num_frames: int,
        patch_size: int = 7,
        groups: int = 32,
        dilation: int = 1,
        norm_cfg: dict | None = None,
    ) -> None:
        super().__init__()
        if channels % 4:
            raise ValueError(
                'expected channels to be a multiple of 4, a quarter of which '
                f'is correlated, got {channels!r}'
            )
        layer = dict(
            conv_cfg=dict(type='Conv3d'),
            norm_cfg=norm_cfg or dict(type='BN3d'),
        )
        reduced = channels // 4
        self.reduce = ConvModule(channels, reduced, 1, **layer)
        self.correlation = Correlation(
            reduced, num_frames, patch_size, min(groups, reduced), dilation
        )
        self.expand = ConvModule(
            self.correlation.out_channels,
            channels,
            1,
            act_cfg=None,
            **layer,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the correlation to features (B, C, T, H, W)."""
        return F.relu(x + self.expand(self.correlation(self.reduce(x))))


@MODELS.register_module()
class R2Plus1D(ResNet2Plus1d):
    """R(2+1)D without a pooling behind its stem, features of any stage.

    D. Tran et al., "A closer look at spatiotemporal convolutions for action
    recognition", CVPR 2018, Table 1: conv1 is the only layer that reduces the
    image before the last three stages. mmaction2's ``ResNet2Plus1d`` pools
    behind it, which leaves a quarter of the positions and of the work. Only
    without the pooling are the thesis' figures met: depth 18 does 55.1 GMAC
    for 16 frames of 128x128 and 27.6 for 8 (Table 4.1: 55.2 and 27.7; with
    one operation per batch-normed feature 55.2 and 27.6), so its "GFLOPs"
    are GMAC.

    The other differences between the two stay as in mmaction2: each
    factorised convolution has a middle width of its own (the paper's formula
    says the same, torchvision takes that of a block's first), and shortcuts
    are factorised, too. Nothing has weights that the parent has not.

    Args:
        depth: 18, 34, 50, 101 or 152.
        norm_cfg: Norm of all layers, those in the middle of a factorised
            convolution excepted, which mmaction2 fixes.
        **options: Further ones of mmaction2's ``ResNet2Plus1d``;
            ``out_indices`` tells the stages to return.
    """

    def __init__(
        self,
        depth: int = 18,
        norm_cfg: dict | None = None,
        **options: Any,
    ) -> None:
        defaults = dict(
            pretrained=None,
            pretrained2d=False,
            conv_cfg=dict(type='Conv2plus1d'),
            norm_cfg=norm_cfg or dict(type='BN3d', requires_grad=True),
            conv1_kernel=(3, 7, 7),
            conv1_stride_t=1,
            inflate=(1, 1, 1, 1),
            temporal_strides=(1, 2, 2, 2),
            zero_init_residual=False,
        )
        super().__init__(depth, **{**defaults, **options})
        self.maxpool = nn.Identity()

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Compute features.

        Args:
            x: Clips (B, 3, T, H, W).

        Returns:
            (B, C, T', H', W') of the last stage, or a tuple of them if
            ``out_indices`` names several.
        """
        x = self.conv1(x)
        features = []
        for index, name in enumerate(self.res_layers):
            x = getattr(self, name)(x)
            if index in self.out_indices:
                features.append(x)
        return features[0] if len(features) == 1 else tuple(features)


@MODELS.register_module()
class CorrNet(R2Plus1D):
    """R(2+1)D with a correlation block behind its first three stages.

    H. Wang et al., "Video modeling with correlation networks", CVPR 2020,
    section 4: CorrNet-26 on R(2+1)D-26. The thesis (Table 4.4) puts the
    blocks on R(2+1)D-18 and gives 60.8 GMAC; ours does 60.7 for 16 frames of
    128x128.

    Args:
        num_frames: T of the clips. It is fixed: correlation filters differ
            from frame to frame.
        correlation: Options of :class:`CorrelationBlock`.
        **options: Those of :class:`R2Plus1D`.
    """

    def __init__(
        self,
        num_frames: int = 16,
        correlation: dict | None = None,
        **options: Any,
    ) -> None:
        check_least(1, num_frames=num_frames)
        super().__init__(**options)
        for index, name in enumerate(self.res_layers[:3]):
            num_frames = -(-num_frames // self.temporal_strides[index])
            layer = getattr(self, name)
            block = CorrelationBlock(
                self.base_channels * 2**index * self.block.expansion,
                num_frames,
                norm_cfg=self.norm_cfg,
                **(correlation or {}),
            )
            layer.add_module('correlation', block)


@MODELS.register_module()
class X3DSwishInSE(X3D):
    """X3D whose blocks with squeeze-and-excitation alone keep their Swish.

    B. Pan's thesis (VA-RED^2), section 4.2: "we remove all the swish
    non-linearity except those in SE layer". A block of X3D has one Swish,
    behind its depthwise convolution; with the squeeze-and-excitation of every
    other block the two form one layer. Where it is removed its place is taken
    by the ReLU of the block's other layers (ours; the thesis does not say
    what, and two linear maps would follow each other without).

    With the M preset (gamma_b 2.25, gamma_d 2.2) and 16 frames of 256x256 it
    does 6.18 GMAC (Table 4.2: 6.20). Weights of an X3D load as they are.

    Args:
        **options: Those of mmaction2's ``X3D``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for module in self.modules():
            if isinstance(module, BlockX3D) and module.se_ratio is None:
                module.swish = build_activation_layer(self.act_cfg)


class InceptionWidths(NamedTuple):
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
INCEPTION_BLOCKS = {
    '3a': (InceptionWidths(64, 64, 64, 64, 96, 32), 'avg'),
    '3b': (InceptionWidths(64, 64, 96, 64, 96, 64), 'avg'),
    '3c': (InceptionWidths(0, 128, 160, 64, 96, 0), 'max'),
    '4a': (InceptionWidths(224, 64, 96, 96, 128, 128), 'avg'),
    '4b': (InceptionWidths(192, 96, 128, 96, 128, 128), 'avg'),
    '4c': (InceptionWidths(160, 128, 160, 128, 160, 96), 'avg'),
    '4d': (InceptionWidths(96, 128, 192, 160, 192, 96), 'avg'),
    '4e': (InceptionWidths(0, 128, 192, 192, 256, 0), 'max'),
    '5a': (InceptionWidths(352, 192, 320, 160, 224, 128), 'avg'),
    '5b': (InceptionWidths(352, 192, 320, 192, 224, 128), 'max'),
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
        widths: InceptionWidths,
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

    Kernels and widths are those of S. Ioffe and C. Szegedy, "Batch
    normalization", ICML 2015, Figure 5; inflated as in J. Carreira and A.
    Zisserman, "Quo vadis, action recognition?", CVPR 2017, and S. Xie et
    al., "Rethinking spatiotemporal feature learning", ECCV 2018: every k x k
    kernel but 1 x 1 becomes k x k x k.

    Neither of the two names the temporal strides on Inception-V2. The default
    is the reading nearest to the VA-RED^2 thesis' 56.0 GMAC for 16 frames of
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
        for name, (widths, pool) in INCEPTION_BLOCKS.items():
            block = InceptionBlock(
                channels,
                InceptionWidths(*map(scaled, widths)),
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


def _pool(kind: str, stride: int | tuple[int, int, int]) -> nn.Sequential:
    """Pool 3x3x3. AvgPool3d pads, too, but wants three frames before."""
    if kind == 'max':
        return nn.Sequential(nn.MaxPool3d(3, stride, 1))
    return nn.Sequential(nn.ConstantPad3d(1, 0.0), nn.AvgPool3d(3, stride))

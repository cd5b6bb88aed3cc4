"""The correlation block of CorrNet.

H. Wang et al., "Video modeling with correlation networks", CVPR 2020,
sections 3 and 4. Symbols: C channels, T frames, K the side of the patch in
which a pixel looks for itself in the next frame, G groups of channels.
"""

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmskip.layers import CountedWhole
from mmskip.options import check_least, check_options


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

"""R(2+1)D and CorrNet as VA-RED^2 uses them.

B. Pan, "Dynamic Neural Network for Efficient Video Recognition", M.S. thesis,
MIT, 2023 (VA-RED^2), section 4.2 and Tables 4.1, 4.3 and 4.4.
"""

from typing import Any

from mmaction.models import ResNet2Plus1d
from torch import Tensor, nn

from mmskip.options import check_least
from mmskip.registry import MODELS

from .correlation import CorrelationBlock


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
        norm_cfg: Of all layers, those in the middle of a factorised
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

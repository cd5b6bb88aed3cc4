"""Channel fusion of a key frame's features with those of its clip.

Koepueklue et al., You Only Watch Once (YOWO), 2019, Section 3.1.3, Fig. 3.
"""

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmskip.layers import CountedWhole
from mmskip.options import check_least
from mmskip.registry import MODELS


class ChannelAttention(CountedWhole):
    """Mixes channels by their Gram matrix, Eqs. 1 to 4.

    As in the authors' code, the softmax of a row is that of its greatest
    entry minus the entries, so that a channel looks at those unlike itself;
    the paper prints the softmax of the entries, of which the diagonal would
    take nearly all. Alpha is learned and begins at 0: at first nothing is
    mixed. Its two matrix products are counted, 2 C^2 H W MACs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        """Mix the channels.

        Args:
            features: Shape ``(B, C, H, W)``.

        Returns:
            Of the same shape.
        """
        flat = features.flatten(2)
        gram = flat @ flat.transpose(1, 2)
        mixed = (-gram).softmax(-1) @ flat  # the greatest entry cancels out
        if self._ledger is not None:
            macs = 2 * gram.numel() * flat.shape[2]
            self._ledger.record(self, macs, macs)
        return features + self.alpha * mixed.view_as(features)


@MODELS.register_module()
class ChannelFusion(BaseModule):
    """YOWO's CFAM, up to its last convolution but one.

    Features of the key frame and of the clip are concatenated, two
    convolutions bring them to ``channels``, and the channels attend to each
    other. The paper's two convolutions behind that are those of mmdet's
    ``YOLOV3Head``.

    Args:
        in_channels: Channels of the key frame's and of the clip's features.
        channels: Channels of the result; the paper has 1024.
        norm_cfg: Normalisation. Defaults to batch normalisation.
        init_cfg: As in mmengine.
    """

    def __init__(
        self,
        in_channels: tuple[int, int],
        channels: int = 1024,
        norm_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        check_least(1, channels=channels)
        super().__init__(init_cfg)
        norm_cfg = norm_cfg or dict(type='BN')
        self.reduce = ConvModule(
            sum(in_channels), channels, 1, norm_cfg=norm_cfg
        )
        self.smooth = ConvModule(
            channels, channels, 3, padding=1, norm_cfg=norm_cfg
        )
        self.attention = ChannelAttention()

    def forward(self, features: tuple[Tensor, Tensor]) -> tuple[Tensor]:
        """Fuse.

        Args:
            features: Of the key frame and of the clip, ``(B, C, H, W)``
                each.

        Returns:
            One level, shape ``(B, channels, H, W)``.
        """
        fused = self.reduce(torch.cat(features, dim=1))
        return (self.attention(self.smooth(fused)),)

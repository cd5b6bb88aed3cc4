"""Skip-Convolutions over mmcv's convolution classes.

Each names torch's class as a base of its own: mmengine's initialisers match
a layer by the names of its direct bases.
"""

from mmcv.cnn.bricks import Conv2d as MMCVConv2d
from mmcv.cnn.bricks import Conv2dAdaptivePadding
from mmcv.cnn.bricks import Conv3d as MMCVConv3d
from torch import Tensor, nn

from mmskip.ops import ConvGeometry

from .skip_conv import SkipConvMixin


class SkipMMCVConv2d(SkipConvMixin, MMCVConv2d, nn.Conv2d):
    """mmcv's ``Conv2d`` wrapper as a Skip-Convolution."""

    dense_class = MMCVConv2d


class SkipMMCVConv3d(SkipConvMixin, MMCVConv3d, nn.Conv3d):
    """mmcv's ``Conv3d`` wrapper as a Skip-Convolution."""

    dense_class = MMCVConv3d


class SkipConv2dAdaptivePadding(
    SkipConvMixin, Conv2dAdaptivePadding, nn.Conv2d
):
    """mmcv's TensorFlow-style padding, which depends on the input size."""

    dense_class = Conv2dAdaptivePadding

    def geometry(self, x: Tensor) -> ConvGeometry:
        """As of the base, with the padding that this input size needs."""
        pairs = []
        for size, k, s, d in zip(
            x.shape[2:],
            self.kernel_size,
            self.stride,
            self.dilation,
            strict=True,
        ):
            needed = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
            pairs.append((needed // 2, needed - needed // 2))
        return super().geometry(x)._replace(padding=tuple(pairs))

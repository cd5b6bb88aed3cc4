"""Dynamic convolutions over mmcv's convolution classes.

Each names torch's class as a base of its own: mmengine's initialisers match
a layer by the names of its direct bases.
"""

from mmcv.cnn.bricks import Conv2d as MMCVConv2d
from mmcv.cnn.bricks import Conv3d as MMCVConv3d
from torch import nn

from .dynamic_conv import DynamicConvMixin


class DynamicMMCVConv2d(DynamicConvMixin, MMCVConv2d, nn.Conv2d):
    """mmcv's ``Conv2d`` wrapper as a dynamic convolution."""

    dense_class = MMCVConv2d


class DynamicMMCVConv3d(DynamicConvMixin, MMCVConv3d, nn.Conv3d):
    """mmcv's ``Conv3d`` wrapper as a dynamic convolution."""

    dense_class = MMCVConv3d

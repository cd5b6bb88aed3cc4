"""L0-regularised convolutions over mmcv's convolution classes.

Each names torch's class as a base of its own: mmengine's initialisers match
a layer by the names of its direct bases.
"""

from mmcv.cnn.bricks import Conv2d as MMCVConv2d
from mmcv.cnn.bricks import Conv3d as MMCVConv3d
from torch import nn

from .l0_conv import L0ConvMixin


class L0MMCVConv2d(L0ConvMixin, MMCVConv2d, nn.Conv2d):
    """mmcv's ``Conv2d`` wrapper with L0 regularisation of its channels."""

    dense_class = MMCVConv2d


class L0MMCVConv3d(L0ConvMixin, MMCVConv3d, nn.Conv3d):
    """mmcv's ``Conv3d`` wrapper with L0 regularisation of its channels."""

    dense_class = MMCVConv3d

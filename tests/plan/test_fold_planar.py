"""Layers of clips that run as layers of images."""

import pytest
import torch
from torch import nn

from mmskip.plan import (
    PlanarConv3d,
    PlanarMaxPool3d,
    is_planar_conv,
    is_planar_pool,
)

CONVS = {
    'frames': dict(kernel_size=(1, 3, 3), padding=(0, 1, 1)),
    'strided': dict(kernel_size=(1, 5, 3), stride=2, padding=(0, 2, 0)),
    'time': dict(kernel_size=(3, 1, 1), padding=(1, 0, 0)),
    'time-strided': dict(kernel_size=(5, 1, 1), stride=(2, 2, 1)),
    'dilated': dict(kernel_size=(3, 1, 1), dilation=(2, 1, 1), bias=False),
    'pointwise': dict(kernel_size=1, stride=2, groups=2),
    'depthwise': dict(kernel_size=(1, 3, 3), groups=4),
    'padded-points': dict(kernel_size=1, padding=1),
}


@pytest.mark.parametrize('options', CONVS.values(), ids=CONVS)
def test_a_planar_convolution_is_the_plain_one(options):
    conv = nn.Conv3d(4, 8, **options).double()
    x = torch.randn(2, 4, 6, 7, 9, dtype=torch.float64)
    expected = conv(x)

    assert is_planar_conv(conv)
    conv.__class__ = PlanarConv3d

    torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize(
    'conv',
    [
        nn.Conv3d(2, 2, 3),
        nn.Conv3d(2, 2, (3, 1, 3)),
        nn.Conv3d(2, 2, 1, padding_mode='replicate'),
        nn.Conv2d(2, 2, 1),
        nn.ConvTranspose3d(2, 2, 1),
    ],
    ids=str,
)
def test_other_convolutions_are_not_planar(conv):
    assert not is_planar_conv(conv)


@pytest.mark.parametrize('padding', [0, (0, 1, 1)])
def test_a_planar_maximum_is_the_plain_one(padding):
    pool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), padding)
    x = torch.randn(2, 3, 4, 7, 8)
    expected = pool(x)

    assert is_planar_pool(pool)
    pool.__class__ = PlanarMaxPool3d

    assert torch.equal(pool(x), expected)


@pytest.mark.parametrize(
    'pool',
    [
        nn.MaxPool3d(3),
        nn.MaxPool3d((1, 3, 3), 2),
        nn.MaxPool3d((1, 3, 3), (1, 2, 2), 1),
        nn.MaxPool3d((1, 2, 2), (2, 2, 2)),
        nn.MaxPool3d((1, 2, 2), return_indices=True),
    ],
    ids=str,
)
def test_other_maxima_are_not_planar(pool):
    assert not is_planar_pool(pool)

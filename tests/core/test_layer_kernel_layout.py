import pytest
import torch
from torch import nn

import mmskip
from mmskip.core import is_channels_last, lay_kernels_last

GATE = dict(type='OutputNormGate', threshold=0.1)


def test_kernels_of_converted_layers_turn_too():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 5, 3))
    mmskip.convert(net, mmskip.SkipConversion(GATE))
    before = [parameter.clone() for parameter in net.parameters()]

    lay_kernels_last(net)

    assert is_channels_last(net[0].weight)
    assert is_channels_last(net[1].weight)
    assert all(map(torch.equal, net.parameters(), before))


def test_what_is_read_as_contiguous_stays_contiguous():
    ops = pytest.importorskip('mmcv.ops')
    bricks = pytest.importorskip('mmcv.cnn.bricks.conv_ws')
    net = nn.ModuleList(
        [
            ops.DeformConv2d(3, 4, 3),
            ops.ModulatedDeformConv2d(3, 4, 3),
            bricks.ConvWS2d(3, 4, 3),
            bricks.ConvAWS2d(3, 4, 3),
            nn.Conv3d(3, 4, 3),
        ]
    )

    lay_kernels_last(net)

    assert all(module.weight.is_contiguous() for module in net)

"""ResNets of few channels."""

import pytest
import torch

import mmskip  # noqa: F401

pytest.importorskip('mmaction')

from mmaction.models import ResNet

from mmskip.models import NarrowResNet


@pytest.mark.parametrize('depth', [18, 50])
def test_with_64_channels_it_is_the_stock_resnet(depth):
    ours, theirs = NarrowResNet(depth, 64), ResNet(depth)
    shapes = {k: v.shape for k, v in theirs.state_dict().items()}
    assert {k: v.shape for k, v in ours.state_dict().items()} == shapes
    ours.load_state_dict(theirs.state_dict())
    ours.eval(), theirs.eval()
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(ours(x), theirs(x))
    assert ours.feat_dim == theirs.feat_dim


def test_channels_follow_the_stem():
    net = NarrowResNet(18, 4)
    net.eval()
    assert net(torch.zeros(1, 3, 64, 64)).shape == (1, 32, 2, 2)
    assert net.feat_dim == 32
    assert all(p.device.type == 'cpu' for p in net.parameters())


@pytest.mark.parametrize('channels', [0, -1])
def test_a_width_that_makes_no_sense_is_refused(channels):
    with pytest.raises(ValueError, match='base_channels to be a positive int'):
        NarrowResNet(18, channels)

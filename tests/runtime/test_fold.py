"""A model prepared for inference computes the same."""

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.registry import init_default_scope
from torch import nn

import mmskip
from mmskip.layers import PlanarConv3d, PlanarMaxPool3d


def stir(net):
    """Statistics and factors that a missing fold would show."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, -2, -0.5)
            nn.init.uniform_(module.bias, -1, 1)
    net.eval()
    return net


def norms(net):
    kinds = nn.modules.batchnorm._BatchNorm
    return sum(isinstance(module, kinds) for module in net.modules())


@pytest.fixture
def r2plus1d():
    init_default_scope('mmaction')
    backbone = dict(
        type='ResNet2Plus1d',
        depth=18,
        pretrained=None,
        pretrained2d=False,
        base_channels=4,
        conv_cfg=dict(type='Conv2plus1d'),
        norm_cfg=dict(type='BN3d'),
        conv1_kernel=(3, 7, 7),
        conv1_stride_t=1,
        inflate=(1, 1, 1, 1),
    )
    return MODELS.build(backbone)


@pytest.mark.parametrize('dynamic', [False, True])
def test_a_whole_model_has_no_batch_norm_left(r2plus1d, dynamic):
    torch.manual_seed(0)
    if dynamic:
        mmskip.convert(r2plus1d, mmskip.DynamicConversion())
    net = stir(r2plus1d).double()
    x = torch.randn(2, 3, 8, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        expected = net(x)

        mmskip.fold(net)

        torch.testing.assert_close(net(x), expected)
    assert norms(net) == 0
    planar = [m for m in net.modules() if isinstance(m, PlanarMaxPool3d)]
    assert len(planar) == 1


def test_macs_stay_those_of_the_model():
    net = nn.Sequential(nn.Conv3d(3, 4, (1, 3, 3)), nn.BatchNorm3d(4)).eval()
    x = torch.randn(1, 3, 2, 5, 5)
    with mmskip.count_macs(net) as before, torch.no_grad():
        net(x)

    report = mmskip.fold(net)
    with mmskip.count_macs(net) as after, torch.no_grad():
        net(x)

    assert isinstance(net[0], PlanarConv3d)
    assert report.planar == report.norms == ['0']
    assert after.total() == before.total()


@pytest.mark.parametrize(
    'net',
    [
        nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)),
        nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3)),
        nn.Sequential(
            nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)
        ),
        nn.Sequential(nn.ConvTranspose2d(3, 3, 1), nn.BatchNorm2d(3)),
    ],
    ids=str,
)
def test_a_batch_norm_that_cannot_be_folded_stays(net):
    net.eval()
    x = torch.randn(2, 3, 4, 4)
    expected = net(x)

    mmskip.fold(net)

    assert norms(net) == 1
    assert torch.equal(net(x), expected)


def test_a_linear_layer_takes_its_batch_norm():
    net = stir(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)))
    x = torch.randn(5, 3)
    expected = net(x)

    mmskip.fold(net)

    torch.testing.assert_close(net(x), expected)
    assert norms(net) == 0
    # The norm took the second axis for the channels.
    with pytest.raises(ValueError, match=r'got \(5, 4, 4\)'):
        net(torch.randn(5, 4, 3))


def test_training_is_refused():
    with pytest.raises(ValueError, match='eval'):
        mmskip.fold(nn.BatchNorm2d(1))

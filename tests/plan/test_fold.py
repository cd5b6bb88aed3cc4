"""A model prepared for inference computes the same."""

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.registry import init_default_scope
from torch import nn

import mmskip
from mmskip.plan import PlanarConv3d, PlanarMaxPool3d, is_planar_conv
from mmskip.va_red2 import CheapMaps, DynamicConvMixin
from tests.helpers.stir import is_norm, stir


def norms(net):
    return sum(map(is_norm, net.modules()))


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


@pytest.mark.parametrize('kind', [nn.Conv3d, nn.MaxPool3d])
@pytest.mark.parametrize('shape', [(2, 4, 6, 8, 8), (4, 6, 8, 8)])
@pytest.mark.parametrize('size', [(1, 3, 3), (3, 1, 1)])
def test_layers_of_clips_compute_the_same_with_and_without_a_batch(
    kind, shape, size
):
    channels = (4, 8) if kind is nn.Conv3d else ()
    padding = tuple(s // 2 for s in size)
    net = nn.Sequential(kind(*channels, size, 1, padding)).double()
    x = torch.randn(shape, dtype=torch.float64)
    expected = net(x)

    report = mmskip.fold(net)

    assert report.planar or kind is nn.MaxPool3d
    torch.testing.assert_close(net(x), expected)


def test_a_class_that_only_has_the_name_is_no_planar_convolution():
    class Conv3d(nn.Conv3d):
        def forward(self, input):
            return 2 * super().forward(input)

    assert is_planar_conv(nn.Conv3d(4, 4, 1))
    assert not is_planar_conv(Conv3d(4, 4, 1))


def spread(net):
    """Options that count, and maps that are not as they began."""
    for module in net.modules():
        if isinstance(module, CheapMaps):
            for parameter in module.parameters():
                nn.init.uniform_(parameter, -1, 1)
        elif isinstance(module, DynamicConvMixin):
            nn.init.normal_(module.gate.decide.weight)
    return net


@pytest.mark.parametrize('time_map', ['scale', 'neighbours'])
@pytest.mark.parametrize('zero', ['nothing', 'factor', 'filter'])
def test_a_dynamic_layer_computes_the_same(time_map, zero):
    net = nn.Sequential(nn.Conv3d(4, 8, 3, padding=1), nn.BatchNorm3d(8))
    conversion = mmskip.DynamicConversion(kernels='all', time_map=time_map)
    mmskip.convert(net, conversion)
    net = spread(stir(net)).double()
    with torch.no_grad():
        if zero == 'factor':
            net[1].weight[2] = 0
        elif zero == 'filter':
            net[0].weight[6] = 0
    x = torch.randn(4, 4, 6, 8, 8, dtype=torch.float64)
    expected = net(x)

    report = mmskip.fold(net)

    torch.testing.assert_close(net(x), expected)
    assert report.norms == [*['0'] * (zero == 'nothing'), '0.gate.squeeze']


def test_closed_channels_are_folded_too():
    net = nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8))
    mmskip.convert(net, mmskip.L0Conversion())
    nn.init.uniform_(net[0].gate.log_alpha, -4, 4)
    net = stir(net).double()
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    expected = net(x)

    assert mmskip.fold(net).norms == ['0']

    torch.testing.assert_close(net(x), expected)

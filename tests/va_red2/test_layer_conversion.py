"""Which layers become dynamic convolutions, and back."""

import pytest
import torch
from torch import nn

import mmskip
from mmskip import DynamicConversion
from mmskip.va_red2 import DynamicConv2d, DynamicConv3d


class Net(nn.Module):
    """R(2+1)D in small."""

    def __init__(self):
        super().__init__()
        self.spatial = nn.Conv3d(3, 8, (1, 3, 3), padding=(0, 1, 1))
        self.norm = nn.BatchNorm3d(8)
        self.relu = nn.ReLU(inplace=True)
        self.temporal = nn.Conv3d(8, 4, (3, 1, 1), padding=(1, 0, 0))
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        x = self.temporal(self.relu(self.norm(self.spatial(x))))
        return self.fc(x.mean((2, 3, 4)))


@pytest.fixture
def net():
    return Net().eval()


def test_spatial_kernels_are_converted_by_default(net):
    report = mmskip.convert(net, DynamicConversion())

    assert report.converted == ['spatial']
    assert 'no spatial kernel' in report.left_dense['temporal']
    assert type(net.spatial) is DynamicConv3d


def test_all_kernels_are_converted_on_request(net):
    report = mmskip.convert(net, DynamicConversion(kernels='all'))

    assert report.converted == ['spatial', 'temporal']


def test_revert_gives_the_plain_model_back(net):
    x = torch.randn(2, 3, 5, 6, 6)
    before, keys, text = net(x), list(net.state_dict()), str(net)
    mmskip.convert(net, DynamicConversion())
    mmskip.revert(net)

    assert type(net.spatial) is nn.Conv3d
    assert (list(net.state_dict()), str(net)) == (keys, text)
    assert vars(net.spatial).keys() == vars(nn.Conv3d(3, 8, 1)).keys()
    assert torch.equal(net(x), before)


def test_a_plain_checkpoint_lacks_only_gates_and_maps(net):
    state = {k: v.clone() for k, v in net.state_dict().items()}
    mmskip.convert(net, DynamicConversion())

    found = net.load_state_dict(state, strict=False)

    assert found.unexpected_keys == []
    assert found.missing_keys
    assert all('.gate.' in k or '.cheap.' in k for k in found.missing_keys)


def test_all_full_equals_the_plain_model(net):
    x = torch.randn(2, 3, 5, 6, 6)
    expected = net(x)
    mmskip.convert(net, DynamicConversion(search_space=3))

    with mmskip.force_routing(net):
        assert torch.equal(net(x), expected)


@pytest.mark.parametrize(
    ('options', 'space'),
    [
        (dict(), (2, 2)),
        (dict(search_space=3), (3, 3)),
        (dict(time=False), (1, 2)),
        (dict(channels=False), (2, 1)),
    ],
)
def test_either_axis_can_be_left_out(net, options, space):
    mmskip.convert(net, DynamicConversion(**options))

    assert net.spatial.search_space == space
    assert net(torch.randn(2, 3, 5, 6, 6)).shape == (2, 5)


def test_images_have_no_temporal_axis():
    net = nn.Sequential(nn.Conv2d(3, 8, 3))

    mmskip.convert(net, DynamicConversion())

    assert type(net[0]) is DynamicConv2d
    assert net[0].search_space == (1, 2)


@pytest.mark.parametrize(
    ('layer', 'reason'),
    [
        (nn.Conv3d(8, 8, 3, groups=8), 'depthwise'),
        (nn.Conv3d(3, 1, 3), 'too few'),
        (nn.Conv3d(6, 6, 3, groups=3), 'cut in parts'),
        (nn.ConvTranspose3d(2, 2, 2), 'transposed'),
        (nn.LazyConv3d(2, 3), 'not a class known'),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_what_cannot_be_dynamic_stays_with_a_reason(net, layer, reason):
    net.odd = layer
    kind = type(layer)

    report = mmskip.convert(net, DynamicConversion())

    assert reason in report.left_dense['odd']
    assert type(net.odd) is kind


def test_nothing_is_converted_half_way(net):
    with pytest.raises(ValueError, match='can convert none'):
        mmskip.convert(net, DynamicConversion(), include='temporal')

    assert type(net.spatial) is type(net.temporal) is nn.Conv3d


def test_a_dynamic_layer_is_not_converted_again(net):
    mmskip.convert(net, DynamicConversion())

    with pytest.raises(ValueError, match='converted already'):
        mmskip.convert(net, DynamicConversion())


def test_revert_waits_for_the_end_of_a_record(net):
    mmskip.convert(net, DynamicConversion())

    with mmskip.record_routing(net), pytest.raises(RuntimeError):
        mmskip.revert(net)


@pytest.mark.parametrize(
    'options',
    [
        dict(search_space=4),
        dict(time=False, channels=False),
        dict(kernels='none'),
        dict(start=0.0),
        dict(hidden_channels=0),
        dict(time_map='cubic'),
    ],
    ids=str,
)
def test_a_faulty_option_is_found_before_there_is_a_model(options):
    with pytest.raises(ValueError, match='expected'):
        DynamicConversion(**options)


@pytest.mark.parametrize('time_map', ['scale', 'neighbours'])
def test_every_form_of_cheap_maps_runs(net, time_map):
    mmskip.convert(net, DynamicConversion(3, time_map=time_map))

    with mmskip.force_routing(net, 2, 2):
        assert net(torch.randn(2, 3, 5, 6, 6)).isfinite().all()

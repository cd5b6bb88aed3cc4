"""Which layers become Skip-Convolutions."""

import pytest
import torch
from mmcv.cnn.bricks import Conv2dAdaptivePadding
from torch import nn
from torch.nn.utils import parametrizations

import mmskip
from mmskip.skip_conv import SkipConv2d, SkipConv3d
from mmskip.skip_conv.conversion import LINEAR_REASON
from mmskip.skip_conv.layer import SKIP_CLASSES
from tests.helpers.nets import TinyNet, Windows

GATE = dict(type='OutputNormGate', threshold=0.5)


class Clipped(nn.Conv2d):
    """A subclass that does more than convolve."""

    def forward(self, x):
        return super().forward(x).clamp(-1, 1)


def overridden():
    conv = nn.Conv2d(2, 2, 1)
    conv.forward = lambda x: x
    return conv


def convert(**layers):
    options = layers.pop('options', {})
    net = nn.ModuleDict({'plain': nn.Conv2d(2, 2, 1), **layers})
    report = mmskip.convert(net, mmskip.SkipConversion(GATE, **options))
    return net, report


@pytest.mark.parametrize(
    ('layer', 'reason'),
    [
        (nn.ConvTranspose1d(2, 2, 2), 'transposed convolution'),
        (nn.ConvTranspose3d(2, 2, 2), 'transposed convolution'),
        (nn.Conv1d(2, 2, 1), 'Conv1d is not a class known'),
        (Clipped(2, 2, 1), 'Clipped is not a class known'),
        (nn.LazyConv2d(2, 1), 'LazyConv2d is not a class known'),
        (
            parametrizations.weight_norm(nn.Conv2d(2, 2, 1)),
            'ParametrizedConv2d is not a class known',
        ),
        (overridden(), 'forward is replaced on the instance'),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_layers_that_do_more_than_convolve_stay_and_are_reported(
    layer, reason
):
    kind = type(layer)

    net, report = convert(odd=layer)

    assert report.converted == ['plain']
    assert list(report.left_dense) == ['odd']
    assert reason in report.left_dense['odd']
    assert type(net['odd']) is kind


def test_only_layers_that_multiply_are_reported():
    _, report = convert(fc=nn.Linear(2, 2), bn=nn.BatchNorm2d(2))

    assert report.left_dense == {'fc': LINEAR_REASON}


@pytest.mark.parametrize(
    ('gate', 'left'),
    [
        (dict(type='GumbelGate'), ['depthwise']),
        (dict(type='InputNormGate', threshold=0.1), []),
    ],
)
def test_no_layer_gets_a_gate_that_costs_as_much_as_itself(gate, left):
    net = nn.ModuleDict(
        dict(
            depthwise=nn.Conv2d(8, 8, 3, groups=8), grouped=nn.Conv2d(8, 8, 3)
        )
    )

    report = mmskip.convert(net, mmskip.SkipConversion(gate))

    assert list(report.left_dense) == left
    assert all('cost as much' in why for why in report.left_dense.values())


def test_roi_heads_stay_dense_and_are_reported():
    head = nn.ModuleDict({'bbox_head': nn.Conv2d(2, 2, 1)})

    net, report = convert(roi_head=head)

    assert report.converted == ['plain']
    assert 'boxes and not frames' in report.left_dense['roi_head.bbox_head']
    assert type(net['roi_head']['bbox_head']) is nn.Conv2d


def test_roi_heads_are_converted_on_request():
    head = nn.ModuleDict({'bbox_head': nn.Conv2d(2, 2, 1)})

    _, report = convert(roi_head=head, options=dict(roi_heads=True))

    assert report.converted == ['plain', 'roi_head.bbox_head']


def test_only_whole_names_make_a_roi_head():
    _, report = convert(my_roi_head2=nn.Conv2d(2, 2, 1))

    assert report.converted == ['plain', 'my_roi_head2']


def test_every_layer_gets_a_gate_of_its_own():
    net, _ = convert(cube=nn.Conv3d(2, 2, 1))

    assert type(net['plain']) is SkipConv2d
    assert type(net['cube']) is SkipConv3d
    assert net['plain'].gate is not net['cube'].gate
    assert net['cube'].gate.threshold == 0.5


def test_the_memory_is_that_of_the_conversion():
    net, _ = convert(options=dict(memory='accumulated'))

    assert net['plain'].memory == 'accumulated'


@pytest.mark.parametrize('training', [True, False])
def test_gates_follow_the_mode_of_their_layer(training):
    net = nn.Sequential(nn.Conv2d(2, 2, 1)).train(training)

    mmskip.convert(net, mmskip.SkipConversion(GATE))

    assert net[0].gate.training is training


def test_no_dense_class_is_converted_in_two_ways():
    dense = [skip.dense_class for skip in SKIP_CLASSES]

    assert len(set(dense)) == len(dense)
    assert Conv2dAdaptivePadding in dense


@pytest.mark.parametrize(
    ('options', 'error'),
    [
        (dict(gate=dict(type='NoGate')), KeyError),
        (dict(gate=dict(type='InputNormGate')), TypeError),
        (dict(gate=dict(threshold=1)), TypeError),
        (dict(gate=dict(GATE, block_size=3)), ValueError),
        (dict(gate=GATE, memory='none'), ValueError),
    ],
    ids=str,
)
def test_a_faulty_option_is_found_before_there_is_a_model(options, error):
    with pytest.raises(error):
        mmskip.SkipConversion(**options)


def test_the_device_of_the_layer_is_kept():
    net = nn.Sequential(nn.Conv2d(2, 2, 1, device='meta'))

    mmskip.convert(net, mmskip.SkipConversion(GATE))

    assert net[0].weight.device == torch.device('meta')


def test_motion_is_an_option_that_revert_removes():
    net = TinyNet()
    motion = dict(type='mmskip.HomographyMotion')
    conversion = mmskip.SkipConversion(GATE, motion=motion)
    mmskip.convert(net, conversion)
    assert net.stem.motion is net.head.motion is conversion.motion
    assert net.stem.native_refusal() == 'motion compensation'
    mmskip.revert(net)
    assert 'motion' not in net.stem.__dict__


def test_motion_leaves_3d_convolutions_dense():
    conversion = mmskip.SkipConversion(
        GATE, motion=dict(type='HomographyMotion')
    )
    with pytest.raises(ValueError, match='is for 2-D convolutions'):
        mmskip.convert(Windows(), conversion)


def test_interpolated_motion_is_refused_where_its_errors_would_stay():
    motion = dict(type='HomographyMotion', interpolate=True)
    mmskip.SkipConversion(GATE, 'accumulated', motion=motion)
    with pytest.raises(ValueError, match='would add up'):
        mmskip.SkipConversion(GATE, 'previous', motion=motion)

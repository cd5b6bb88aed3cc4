"""Convolutions that compute as much as each sample needs."""

import copy
import pickle

import pytest
import torch
from mmcv.cnn import fuse_conv_bn
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import mmskip
from mmskip.va_red2 import DynamicConv2d, DynamicConv3d, Usage

CONVS = {
    'spatial': dict(kernel_size=(1, 3, 3), padding=(0, 1, 1), bias=False),
    'cube': dict(kernel_size=3, padding=1, stride=2),
    'temporal': dict(kernel_size=(3, 1, 1), padding=(1, 0, 0)),
    'dilated': dict(kernel_size=2, dilation=(2, 1, 1)),
    'grouped': dict(kernel_size=(1, 3, 3), groups=4),
    'depthwise': dict(kernel_size=3, padding=1, groups=8),
    'circular': dict(kernel_size=3, padding=1, padding_mode='circular'),
    'same': dict(kernel_size=(2, 3, 3), padding='same'),
}
EACH = pytest.mark.parametrize('name', CONVS)


def dynamic(name='spatial', channels=8, **options):
    """A layer whose gate opens all kinds of options."""
    conv = DynamicConv3d(8, channels, **CONVS[name], **options).double()
    nn.init.normal_(conv.gate.decide.weight)
    nn.init.zeros_(conv.gate.beta)
    for kernel in (*conv.cheap.channels, *conv.cheap.time):
        nn.init.normal_(kernel)
    # Statistics that set the samples apart.
    conv.gate.norm.momentum = 1.0
    conv.gate(clips())
    return conv.eval()


def clips(number=8, frames=5):
    size = torch.linspace(0, 3, number).view(-1, 1, 1, 1, 1)
    x = torch.randn(number, 8, frames, 6, 7, dtype=torch.float64)
    return x.relu() * size


def plain_of(conv, name):
    plain = nn.Conv3d(8, conv.out_channels, **CONVS[name]).double()
    plain.load_state_dict(conv.state_dict(), strict=False)
    return plain


@EACH
@pytest.mark.parametrize('space', [2, 3])
def test_inference_equals_the_formula_of_training(name, space):
    conv = dynamic(name, search_space=space)
    x = clips()
    with torch.no_grad(), mmskip.record_routing(conv) as record:
        y = conv(x)
        every = Usage(*(tuple(range(space)) for _ in range(2)))
        expected = conv._compute(x, conv.gate(x), every)

    chosen = record.by_layer()['']
    pairs = zip(chosen.time.tolist(), chosen.channels.tolist(), strict=True)
    assert len(set(pairs)) > 1
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)


@EACH
def test_results_do_not_depend_on_the_batch(name):
    conv = dynamic(name, search_space=3)
    x = clips()

    with torch.no_grad():
        alone = torch.cat([conv(sample) for sample in x.split(1)])
        torch.testing.assert_close(conv(x), alone, rtol=1e-10, atol=1e-10)


@EACH
def test_all_full_is_the_plain_layer_bit_for_bit(name):
    conv = dynamic(name)
    x = clips()

    with torch.no_grad(), mmskip.force_routing(conv):
        assert torch.equal(conv(x), plain_of(conv, name)(x))


def test_half_of_both_equals_the_plain_layer_where_it_computes():
    conv = dynamic()
    x = clips()

    with torch.no_grad(), mmskip.force_routing(conv, 1, 1):
        y = conv(x)

    full = plain_of(conv, 'spatial')(x)
    torch.testing.assert_close(y[:, :4, ::2], full[:, :4, ::2])
    assert not torch.allclose(y[:, 4:, ::2], full[:, 4:, ::2])


def test_without_any_weight_the_smallest_option_is_used():
    conv = dynamic(search_space=3)
    x = clips()
    nn.init.zeros_(conv.gate.decide.weight)
    with torch.no_grad(), mmskip.force_routing(conv, 2, 2):
        expected = conv(x)
    nn.init.constant_(conv.gate.beta, -1.0)

    with torch.no_grad(), mmskip.record_routing(conv) as record:
        y = conv(x)

    assert set(record.by_layer()[''].time.tolist()) == {2}
    assert torch.equal(y, expected)


def test_macs_are_those_of_the_routing():
    conv = dynamic()
    x = clips(number=2, frames=8)

    forced = mmskip.force_routing(conv, 1, 1)
    with torch.no_grad(), forced, mmskip.count_macs(conv) as macs:
        conv(x)

    gate = 16 * 16 + 16 * 4
    area = 8 * 6 * 7
    rest = 8 * (4 + 2 + 3 + 3 + 2) * 42
    assert macs.total() == (
        2 * 8 * area * 72,
        2 * 4 * area // 2 * 72,
        2 * (gate + rest),
        0,
    )


def test_training_executes_the_full_convolution():
    conv = dynamic().train()

    with mmskip.count_macs(conv) as macs:
        conv(clips())

    assert macs.total().executed == macs.total().dense > 0


@pytest.mark.parametrize('gamma', [0.5, -1.5])
def test_a_folded_batch_norm_changes_nothing(gamma):
    conv = dynamic(search_space=3)
    norm = nn.BatchNorm3d(8).double().eval()
    nn.init.normal_(norm.weight, gamma, 0.1)
    for statistic in (norm.bias, norm.running_mean):
        nn.init.normal_(statistic)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    x = clips()

    with torch.no_grad():
        expected = norm(conv(x))
        y = fuse_conv_bn_eval(conv, norm)(x)

    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)


def test_mmcv_folds_a_batch_norm_into_the_layer():
    conv = DynamicConv2d(3, 6, 3)
    norm = nn.BatchNorm2d(6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.running_mean)
    nn.init.normal_(norm.bias)
    net = nn.Sequential(conv, norm).eval()
    x = torch.randn(4, 3, 8, 8)

    with torch.no_grad():
        expected = net(x)
        y = fuse_conv_bn(net)(x)

    assert isinstance(net[1], nn.Identity)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)


def test_a_channel_that_others_need_cannot_be_folded_away():
    conv = dynamic()
    norm = nn.BatchNorm3d(8).double().eval()
    norm.weight.data[0] = 0

    with pytest.raises(ValueError, match='rebuilt from channels'):
        fuse_conv_bn_eval(conv, norm)


def test_plain_weights_bring_maps_that_fit_them():
    conv = DynamicConv3d(8, 8, **CONVS['spatial'])
    weight = torch.randn(8, 8, 1, 3, 3)
    weight[4:] = 3 * weight[:4]

    found = conv.load_state_dict({'weight': weight}, strict=False)

    assert all(k.startswith(('gate.', 'cheap.')) for k in found.missing_keys)
    torch.testing.assert_close(conv.cheap.channels[0], torch.full((4,), 3.0))


def test_the_gate_begins_open_and_leaves_the_scale_alone():
    conv = DynamicConv3d(8, 8, search_space=3, **CONVS['spatial']).eval()

    for weights in conv.gate(clips().float()):
        assert (weights > 0).all()
        torch.testing.assert_close(
            weights.sum(1), torch.ones(8), rtol=0, atol=0.2
        )


@pytest.mark.parametrize('frames', [1, 2, 7])
def test_any_number_of_frames_passes_one_gate(frames):
    conv = dynamic()

    assert conv(clips(2, frames)).shape[2] == frames


def test_the_gate_tells_moving_from_static():
    conv = dynamic()
    x = clips(2)[1:]
    still = x[:, :, :1].expand_as(x)

    motion = conv.gate.pool(still)[:, 8:]

    assert motion.eq(0).all()
    assert conv.gate.pool(x)[:, 8:].gt(0).all()


@pytest.mark.parametrize(
    'duplicate', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_copies_leave_records_behind(duplicate):
    conv = dynamic()
    with mmskip.record_routing(conv):
        twin = duplicate(conv)

    assert twin._routing is None
    assert torch.equal(twin(clips(1, 1) * 0), conv(clips(1, 1) * 0))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(channels=1), 'too few'),
        (dict(channels=2, search_space=3), 'too few'),
        (dict(time=False, channels=8, axis=False), 'no axis'),
    ],
)
def test_impossible_options_are_refused(options, message):
    axis = options.pop('axis', True)
    count = options.pop('channels')
    with pytest.raises(ValueError, match=message):
        DynamicConv3d(4, count, 1, channels=axis, **options)


def test_training_can_follow_inference():
    conv = dynamic()
    with torch.inference_mode():
        conv(clips(frames=6))

    conv.train()(clips(frames=6)).sum().backward()

    assert conv.weight.grad is not None

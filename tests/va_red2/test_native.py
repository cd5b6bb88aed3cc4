"""Dynamic convolutions in C++ compute what they do in torch."""

import pytest
import torch
from torch import nn

import mmskip
from mmskip.native import library as native
from mmskip.va_red2 import (
    CheapKernels,
    DynamicConv2d,
    DynamicConv3d,
    mix_factors,
)
from mmskip.va_red2.mixing import MixKey

pytestmark = pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)

SPATIAL = dict(kernel_size=(1, 3, 3), padding=(0, 1, 1))
CONVS = {
    'spatial': lambda **o: DynamicConv3d(6, 8, **SPATIAL, **o),
    'without bias': lambda **o: DynamicConv3d(
        6, 8, **SPATIAL, bias=False, **o
    ),
    'temporal': lambda **o: DynamicConv3d(
        6, 8, (3, 1, 1), padding=(1, 0, 0), **o
    ),
    'cube': lambda **o: DynamicConv3d(6, 10, 3, stride=2, padding=1, **o),
    'time': lambda **o: DynamicConv3d(6, 8, **SPATIAL, channels=False, **o),
    'channels': lambda **o: DynamicConv3d(6, 8, **SPATIAL, time=False, **o),
    'images': lambda **o: DynamicConv2d(6, 8, 3, padding=1, **o),
}


def make(name, space):
    """A layer that chooses otherwise for each clip, and some clips."""
    conv = CONVS[name](search_space=space)
    for parameter in (conv.gate.decide.weight, *conv.cheap.parameters()):
        nn.init.normal_(parameter)
    nn.init.zeros_(conv.gate.beta)
    frames = () if name == 'images' else (5,)
    x = torch.randn(7, 6, *frames, 9, 11)
    x *= torch.linspace(0.2, 3, 7).view(-1, *[1] * (x.dim() - 1))
    conv.gate.norm.momentum = 1.0
    conv.gate(x)
    return conv.eval(), x


def watch(conv, x, monkeypatch, backend):
    monkeypatch.setenv('MMSKIP_BACKEND', backend)
    with torch.inference_mode(), mmskip.record_routing(conv) as record:
        return conv(x), record


@pytest.mark.parametrize('prepare', [None, mmskip.fold, mmskip.accelerate])
@pytest.mark.parametrize('space', [2, 3])
@pytest.mark.parametrize('name', CONVS)
def test_routing_and_outputs_are_those_of_torch(
    name, space, prepare, monkeypatch
):
    torch.manual_seed(0)
    conv, x = make(name, space)
    if prepare is not None:
        prepare(conv)

    expected, of_torch = watch(conv, x, monkeypatch, 'reference')
    found, of_native = watch(conv, x, monkeypatch, 'native')

    close = dict(rtol=0, atol=1e-5 * float(expected.abs().max()))
    torch.testing.assert_close(found, expected, **close)
    (by_torch,) = of_torch.by_layer().values()
    (by_native,) = of_native.by_layer().values()
    for one, other in zip(by_native, by_torch, strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))
    assert len(by_native.executed.unique()) > 1


def seen_of(conv, x):
    gate = conv.gate
    norm = gate.norm
    return (
        x, gate.squeeze.weight, None,
        [norm.running_mean, norm.running_var, norm.weight, norm.bias],
        norm.eps, gate.decide.weight, gate.beta, 2,
    )  # fmt: skip


@torch.no_grad()
def test_a_gate_that_closes_all_leaves_the_smallest_open():
    conv, x = make('spatial', 3)
    conv.gate.beta.fill_(-9)

    weights = native.soft_gate(*seen_of(conv, x)[:-1], 3)

    assert torch.equal(weights, torch.eye(3)[[2, 2]].flatten().expand(7, -1))


@pytest.mark.parametrize('frames', [1, 4])
@torch.no_grad()
def test_clips_may_lie_frame_by_frame_or_be_cut_out(frames):
    conv, _ = make('spatial', 2)
    x = torch.randn(2, frames, 6, 9, 11).transpose(1, 2)
    wide = torch.randn(2, 6, frames, 9, 20)

    for clips in (x, wide[..., 3:14], x[:, :, ::2]):
        found = native.soft_gate(*seen_of(conv, clips))
        expected = native.soft_gate(*seen_of(conv, clips.contiguous()))
        assert torch.equal(found, expected)


@torch.no_grad()
def test_operators_are_as_torch_wants_them():
    conv, x = make('spatial', 2)
    checks = ('test_schema',)
    gate = torch.ops.mmskip.soft_gate.default
    torch.library.opcheck(gate, seen_of(conv, x), test_utils=checks)
    mix = torch.ops.mmskip.mix_options.default
    torch.library.opcheck(mix, mixed(), test_utils=checks)


def mixed():
    """One channel of two is computed, and the other made of it."""
    return [
        torch.randn(2, 1, 3, 4, 5), [],
        [torch.rand(2, 1), torch.rand(1, 6)],
        torch.tensor([0, 1, 2, 0, 1, 2]), torch.arange(6), torch.randn(2),
        [2, 3], False,
    ]  # fmt: skip


def test_sums_of_planes_by_hand():
    y, _, (weights, table), _, _, bias, *_ = arguments = mixed()

    found = native.mix_options(*arguments)

    factors = weights[:, :, None] * table.view(2, 3)
    expected = y * factors[..., None, None] + bias.view(-1, 1, 1, 1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('channels', [1, 5, 8, 43])
@pytest.mark.parametrize('relu', [False, True])
def test_sums_channels_last_are_those_of_planes(relu, channels):
    torch.manual_seed(0)
    full, frames, computed = 2 * channels, 5, (channels, 3)
    key = MixKey((full, frames), (1,), (1,), True)
    cheap = CheapKernels((torch.randn(channels),), (torch.randn(full, 3),))
    factors = mix_factors(key, cheap, torch.zeros(()))
    y = torch.randn(2, *computed, 7, 9)
    rest = [
        [torch.rand(2, 1), factors.time],
        [torch.rand(2, 1), factors.channels],
        factors.indices.pattern.sources,
        factors.indices.pattern.starts,
        torch.randn(full),
        [full, frames],
        relu,
    ]
    planes = y.transpose(1, 2).contiguous().transpose(1, 2)
    last = y.contiguous(memory_format=torch.channels_last_3d)

    found = native.mix_options(last, *rest)

    torch.testing.assert_close(found, native.mix_options(planes, *rest))
    if channels > 1:
        assert found.is_contiguous(memory_format=torch.channels_last_3d)
    assert (found >= 0).all() == relu


@torch.no_grad()
def test_a_gate_pools_clips_channels_last():
    conv, _ = make('spatial', 2)
    for shape in ((2, 6, 1, 9, 11), (2, 6, 5, 9, 11), (3, 6, 2, 20, 20)):
        x = torch.randn(shape)
        last = x.contiguous(memory_format=torch.channels_last_3d)
        torch.testing.assert_close(
            native.soft_gate(*seen_of(conv, last)),
            native.soft_gate(*seen_of(conv, x)),
        )


@torch.no_grad()
def test_an_activation_is_a_part_of_the_layer():
    torch.manual_seed(0)
    for name in ('spatial', 'temporal', 'images'):
        for act in (nn.ReLU(), nn.SiLU()):
            conv, x = make(name, 2)
            model = nn.Sequential(conv, act).eval()
            expected = model(x)
            report = mmskip.accelerate(model)
            assert '1 of them with their activation' in str(report)
            close = dict(rtol=0, atol=1e-5 * float(expected.abs().max()))
            torch.testing.assert_close(model(x), expected, **close)


@pytest.mark.parametrize(
    ('place', 'value', 'text'),
    [
        (0, torch.randn(2, 3, 4, 5), r'expected y \(N, C, T, H, W\)'),
        (0, torch.randn(2, 1, 3, 5, 4).transpose(3, 4), 'contiguous, or so'),
        (2, [torch.rand(3, 1), torch.rand(1, 6)], 'weights of 2 samples'),
        (2, [torch.rand(2, 1)], 'expected weights and a table'),
        (2, [torch.rand(2, 1), torch.rand(1, 5)], r'table of shape \[1, 6\]'),
        (2, [torch.rand(2, 2), torch.rand(1, 6)], r'table of shape \[2, 6\]'),
        (3, torch.tensor([0, 1, 3, 0, 1, 2]), 'terms of 6 sums of 3 planes'),
        (4, torch.arange(5), 'terms of 6 sums'),
        (5, torch.randn(3), r'contiguous bias of shape \[2\]'),
        (6, [2], 'expected 2 values of full'),
    ],
)
def test_bad_sums_are_refused(place, value, text):
    arguments = mixed()
    arguments[place] = value

    with pytest.raises(ValueError, match=text):
        native.mix_options(*arguments)


@torch.no_grad()
def test_bad_clips_are_refused():
    conv, x = make('spatial', 2)

    with pytest.raises(ValueError, match=r'expected clips \(N, C, T, H, W\)'):
        native.soft_gate(*seen_of(conv, x[0, 0]))
    with pytest.raises(ValueError, match='layer of 8 inputs'):
        native.soft_gate(*seen_of(conv, x[:, :4]))
    with pytest.raises(ValueError, match='0 to 4 temporal options, got 5'):
        native.soft_gate(*seen_of(conv, x)[:-1], 5)
    with pytest.raises(TypeError, match='dtype float32'):
        native.soft_gate(*seen_of(conv, x.double()))

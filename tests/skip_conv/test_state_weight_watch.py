"""Weights that change while a stream goes on."""

import copy

import pytest
import torch
from torch import nn

import mmskip
from mmskip import StreamState
from mmskip.native import library as native
from mmskip.plan import propagate_changes
from mmskip.skip_conv import MEMORY_RULES
from mmskip.skip_conv.state import WeightGroup, WeightWatch
from tests.helpers.convs import make_video
from tests.helpers.nets import TinyNet
from tests.helpers.pairwise import every_pair
from tests.helpers.twins import GATES, lively

WAYS = ['reference', *(() if native.MISSING else ('native', 'plan'))]


def _each(net, write):
    for module in net.modules():
        for name, p in list(module._parameters.items()):
            if p is not None:
                write(module, name, p)


def _load(net, **options):
    state = net.state_dict()
    net.load_state_dict({k: 0.9 * v for k, v in state.items()}, **options)


def _step(net):
    for p in net.parameters():
        p.grad = torch.randn_like(p)
    torch.optim.SGD(net.parameters(), lr=0.1).step()


WRITES = {
    'in place': lambda net: _each(net, lambda m, n, p: p.mul_(0.9)),
    'past the counter': lambda net: _each(
        net, lambda m, n, p: p.data.mul_(0.9)
    ),
    'order of filters': lambda net: _each(
        net, lambda m, n, p: p.data.copy_(p.data.flip(*range(p.dim())))
    ),
    'data': lambda net: _each(
        net, lambda m, n, p: setattr(p, 'data', 0.9 * p.data)
    ),
    'parameter': lambda net: _each(
        net, lambda m, n, p: setattr(m, n, nn.Parameter(0.9 * p))
    ),
    'state dict': _load,
    'assigned': lambda net: _load(net, assign=True),
    'optimizer': _step,
}


def converted(gate='input', memory='accumulated'):
    net = TinyNet().eval()
    mmskip.convert(net, mmskip.SkipConversion(GATES[gate], memory=memory))
    return lively(net)


@torch.no_grad()
def show(net, state, video):
    with mmskip.stream(net, state):
        return [net(x) for x in video]


def run_as(way, net, monkeypatch):
    """Have streams of a network run in one of three ways."""
    backend = 'reference' if way == 'reference' else 'native'
    monkeypatch.setenv('MMSKIP_BACKEND', backend)
    if way == 'plan':
        propagate_changes(net)
    return net


@every_pair(
    'way,gate,memory,write',
    WAYS,
    ['input', 'relative', 'magnitude'],
    MEMORY_RULES,
    WRITES,
)
def test_a_write_in_mid_stream_makes_reference_frames(
    way, gate, memory, write, monkeypatch
):
    net = converted(gate, memory)
    video = make_video(6, 1, *TinyNet.shape, share=0.03)
    twin = copy.deepcopy(net)
    run_as(way, net, monkeypatch)
    state = StreamState()
    show(net, state, video[:3])

    with torch.no_grad():
        torch.manual_seed(1)
        WRITES[write](net)
        torch.manual_seed(1)
        WRITES[write](twin)
    found = show(net, state, video[3:])

    # A model that never had the old weights, and a new stream.
    monkeypatch.setenv('MMSKIP_BACKEND', 'reference')
    expected = show(twin, StreamState(), video[3:])
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()
    assert state.weight_changes == len(state.slots) == 3
    assert state.frames == 6


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('write', WRITES)
def test_a_write_between_two_streams_is_in_the_next_one(
    way, write, monkeypatch
):
    net = converted('magnitude')
    video = make_video(4, 1, *TinyNet.shape, share=0.03)
    twin = copy.deepcopy(net)
    run_as(way, net, monkeypatch)
    state = StreamState()
    show(net, state, video)

    with torch.no_grad():
        for model in (net, twin):
            torch.manual_seed(1)
            WRITES[write](model)
    state.reset()
    found = show(net, state, video)

    monkeypatch.setenv('MMSKIP_BACKEND', 'reference')
    expected = show(twin, StreamState(), video)
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()
    assert state.weight_changes == 0


@pytest.mark.parametrize('way', WAYS)
def test_only_layers_with_other_weights_start_anew(way, monkeypatch):
    net = run_as(way, converted(), monkeypatch)
    video = make_video(5, 1, *TinyNet.shape, share=0.03)
    state = StreamState()
    show(net, state, video[:3])
    with torch.no_grad():
        net.body.bias.add_(1)

    show(net, state, video[3:4])

    masks = state.last_masks()
    assert masks['body', 0].all()
    assert not masks['stem', 0].all()
    assert state.weight_changes == 1


@pytest.mark.parametrize('way', WAYS)
@torch.no_grad()
def test_one_value_past_the_counter_never_mixes_old_and_new(way, monkeypatch):
    net = run_as(way, converted('closed at 0'), monkeypatch)
    old = copy.deepcopy(net)
    video = make_video(5, 1, *TinyNet.shape, share=0.03)
    state = StreamState()
    show(net, state, video[:3])

    net.body.weight.data[1, 2, 1, 0] += 1
    found = show(net, state, video[3:4])[0]

    # A copy of the weights that is computed from goes on until the reset.
    matches = [
        (found - model(video[3])).abs().max() < 1e-4 for model in (old, net)
    ]
    assert matches.count(True) == 1
    if way == 'reference':
        assert matches[1]
    state.reset()
    again = show(net, state, video[3:4])[0]
    assert (again - net(video[3])).abs().max() < 1e-4


def test_parts_are_told_apart():
    net = converted('magnitude')
    layers = {net.stem: 'stem', net.body: 'body'}
    watch = WeightWatch(layers, is_native=True)
    assert watch.changed() == set()

    net.body.gate.bias.data.add_(1)
    assert watch.changed() == {WeightGroup('body', is_gate=True)}
    with torch.no_grad():
        net.stem.weight.mul_(2)
    assert watch.changed() == {
        WeightGroup('body', True),
        WeightGroup('stem', False),
    }


@torch.no_grad()
def test_weights_of_inference_mode_are_watched_by_their_values():
    with torch.inference_mode():
        net = converted()
        watch = WeightWatch({net.body: 'body'}, is_native=True)
        assert watch.changed() == set()

        net.body.weight[1, 2, 1, 0] += 1

        assert watch.changed() == {WeightGroup('body', False)}


@torch.no_grad()
def test_a_weight_that_is_computed_from_others_is_watched_by_those():
    net = converted()
    nn.utils.parametrizations.weight_norm(net.body)
    watch = WeightWatch({net.body: 'body'}, is_native=True)
    assert watch.changed() == set()

    net.body.parametrizations.weight.original0.mul_(2)

    assert watch.changed() == {WeightGroup('body', False)}


def test_a_gate_that_changes_leaves_the_memory():
    net = converted('magnitude')
    video = make_video(5, 1, *TinyNet.shape, share=0.03)
    state = StreamState()
    show(net, state, video[:3])

    net.body.gate.bias.data.fill_(100)
    show(net, state, video[3:4])

    assert state.last_masks()['body', 0].all()
    assert state.weight_changes == 0

"""Streams that propagate changes are streams."""

import os
import subprocess
import sys
from collections import namedtuple

import pytest
import torch
from torch import nn

import mmskip
from mmskip import StreamState
from mmskip.native import library as native
from mmskip.plan import propagate_changes
from mmskip.skip_conv import MEMORY_RULES
from tests.helpers.nets import FlipTest, PyramidNet, TinyNet
from tests.helpers.pairwise import every_pair
from tests.helpers.twins import (
    GATES,
    NORM,
    SHAPE,
    Block,
    convert,
    eventful,
    flat,
    patched,
    twins,
)

pytestmark = pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)


@every_pair('gate,memory,batch', GATES, MEMORY_RULES, [1, 3])
def test_outputs_and_masks_are_those_of_the_stream(gate, memory, batch):
    both = twins(Block(), GATES[gate], memory)

    both.watch(eventful(batch, 4, 12, 12))

    assert len(both.plans) == 1
    assert len(both.plans[0].convs) >= 5


@pytest.mark.parametrize('kind', ['InputNormGate', 'OutputNormGate'])
@pytest.mark.parametrize('memory', MEMORY_RULES)
def test_levels_follow_the_light_as_in_the_stream(kind, memory):
    gate = dict(type=kind, threshold=0.3, relative=True)
    both = twins(Block(), gate, memory)
    day = list(eventful(2, 4, 12, 12))
    night = [x / 16 for x in day]

    both.watch([torch.zeros_like(day[0]), *day, *night, day[0], day[0]])

    plain, planned = (state.slots for state in both.states)
    for site, memory in plain.items():
        assert torch.equal(planned[site].scale, memory.scale)
        assert torch.equal(planned[site].computed, memory.computed)


@pytest.mark.parametrize('memory', MEMORY_RULES)
@pytest.mark.parametrize('gate', ['order', 'relative', 'blocks of 4'])
def test_macs_of_some_frames_are_those_of_the_stream(gate, memory):
    both = twins(nn.Sequential(Block(), Pick()), GATES[gate], memory)
    shares = []

    for index, x in enumerate(eventful(2, 4, 12, 12)):
        if index % 3:
            counts = both.count(x)
            shares.append(sum(c.executed for c in counts.values()))
        else:
            both.show(x)

    assert len(set(shares)) > 2
    assert counts['1.linear'].executed > 0


def test_a_folded_net_is_one_plan():
    net = nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 4, 1),
        nn.SiLU(),
    )
    mmskip.fold(convert(net.eval(), NORM))
    propagate_changes(net)
    with torch.inference_mode(), mmskip.stream(net) as state:
        net(torch.rand(SHAPE))
        (plan,) = state.plans.values()
    assert len(plan.convs) == 2


@pytest.mark.parametrize('folds', [False, True])
def test_a_rounded_silu_is_no_change(folds):
    net = nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 4, 1)
    )
    convert(net, GATES['closed at 0'])
    if folds:
        mmskip.fold(net)
    propagate_changes(net)
    x = torch.randn(SHAPE)

    with torch.no_grad(), mmskip.stream(net) as state:
        net(x)
        net(x)

        assert not any(mask.any() for mask in state.last_masks().values())


class Pick(nn.Module):
    """Ends in a layer that is no Skip-Convolution."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 3)

    def forward(self, outputs):
        return self.linear(outputs[0].mean((2, 3)))


@pytest.mark.parametrize('net_class', [TinyNet, PyramidNet])
def test_two_calls_a_frame_have_two_memories(net_class):
    both = twins(FlipTest(net_class()))

    both.watch(eventful(1, *net_class.shape))

    assert len(both.plans) == 1
    assert max(number for _, number in both.states[1].slots) > 0


class Branch(nn.Module):
    """A part that runs twice, in a model that branches on values."""

    def __init__(self):
        super().__init__()
        self.part = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
        self.last = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())

    def forward(self, x, direct=False, twice=False):
        if x.mean() > 1e6:
            return x
        if direct:
            x = self.part[1](self.part[0](x))
        else:
            x = self.part(x)
        if twice:
            x = x + self.last[0](x)
        return self.last(x)


def test_of_what_branches_on_values_the_parts_have_plans():
    both = twins(Branch())

    both.watch(eventful(*SHAPE))

    assert len(both.plans) == 2


@pytest.mark.parametrize('option', ['direct', 'twice'])
@pytest.mark.parametrize('memory', MEMORY_RULES)
def test_a_plan_knows_what_else_runs_at_its_call_sites(option, memory):
    both = twins(Branch(), memory=memory)
    x = torch.randn(SHAPE)

    for index in range(12):
        both.show(x, **{option: index in (3, 4, 7, 10)})
        x = patched(x)


class Branching(nn.Module):
    """Left to its parts only when it is asked for something else."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())

    def forward(self, x, branches=False):
        x = self.first(x)
        if branches and x.mean() > -1e6:
            x = 2 * x
        return self.second(x)


def test_a_plan_of_the_whole_is_none_of_its_first_part():
    both = twins(Branching())
    states = [(StreamState(), StreamState()) for _ in range(2)]
    x = torch.randn(SHAPE)

    for index, branches in enumerate([0, 0, 0, 0, 1, 1, 0, 0]):
        both.restart(states[index % 2])
        both.show(x, branches=bool(branches))
        x = patched(x)

    assert len(both.plans) == 1


class Many(nn.Module):
    """Takes and returns lists and dicts."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.other = nn.Conv2d(4, 4, 1)

    def forward(self, images, factor=1):
        a, b = images
        return {'a': [self.conv(a), factor], 'b': (self.other(b) + a, None)}


@pytest.mark.parametrize('kind', [list, tuple])
def test_inputs_and_outputs_may_be_lists_tuples_and_dicts(kind):
    both = twins(Many())
    video = eventful(*SHAPE)

    for x, y in zip(video, video[3:], strict=False):
        both.show(kind((x, y)), factor=3)

    with torch.no_grad(), mmskip.stream(both.propagated, both.states[1]):
        found = both.propagated(kind((x, y)), factor=3)
    assert list(found) == ['a', 'b']
    assert isinstance(found['a'], list)
    assert found['a'][1] == 3
    assert isinstance(found['b'], tuple)
    assert found['b'][1] is None


Pair = namedtuple('Pair', 'left right')


class Returns(nn.Module):
    """Returns what a function makes of two convolutions."""

    def __init__(self, function):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.function = function

    def forward(self, x):
        return self.function(x, self.conv(x))


RETURNS = {
    'a named tuple': lambda x, y: Pair(y, x),
    'the input': lambda x, y: (x, y, x),
    'a view of the input': lambda x, y: (y, x[..., ::2, 1:], x.view(-1)),
    'a value twice': lambda x, y: [y, y],
    'views': lambda x, y: (y.transpose(2, 3), y[:, 1:]),
    'parts': lambda x, y: y.chunk(2, 1),
    'a size': lambda x, y: (y, y.shape, y.shape[2]),
}


@pytest.mark.parametrize('name', RETURNS)
@torch.no_grad()
def test_the_caller_may_write_into_what_it_gets_and_gave(name):
    both = twins(Returns(RETURNS[name]))
    earlier = []
    for x in eventful(*SHAPE):
        results = []
        for net, state in zip(both.nets, both.states, strict=True):
            given = x.clone()
            with mmskip.stream(net, state):
                results.append(net(given))
        both.check(*results)
        # The plain one may return what it was given.
        given.fill_(7)
        earlier.append((results[1], flat(results[1])))
        if len(earlier) > 1:
            before, copies = earlier[-2]
            assert all(map(torch.equal, flat(before), copies))
            for tensor in tensors(before):
                tensor.fill_(1e5)
    assert len(both.plans) == 1


def tensors(results):
    return [part for part in results if torch.is_tensor(part)]


def test_a_stream_of_a_part_runs_as_before():
    both = twins(FlipTest(TinyNet()))

    with torch.no_grad():
        for x in eventful(1, *TinyNet.shape):
            results = []
            for net, state in zip(both.nets, both.states, strict=True):
                with mmskip.stream(net.net, state):
                    results.append(net.net(x))
            both.check(*results)


def test_a_call_of_more_than_the_streams_model_says_so():
    both = twins(FlipTest(TinyNet()))
    x = torch.zeros(1, *TinyNet.shape)

    with torch.no_grad(), mmskip.stream(both.propagated.net) as state:
        both.propagated(x)

    assert state.frames == 2


def test_outside_of_streams_nothing_changes():
    both = twins(TinyNet())
    x = torch.randn(1, *TinyNet.shape)

    assert torch.equal(both.propagated(x), both.plain(x))
    with mmskip.clip(both.propagated, 1), mmskip.clip(both.plain, 1):
        assert torch.equal(both.propagated(x), both.plain(x))


@pytest.mark.parametrize('net_class', [TinyNet, Branch])
def test_revert_gives_the_forwards_back(net_class):
    both = twins(net_class())
    shape = getattr(net_class, 'shape', SHAPE[1:])
    both.watch(eventful(1, *shape)[:3])

    mmskip.revert(both.propagated)

    assert not any('forward' in vars(m) for m in both.propagated.modules())
    assert list(vars(both.propagated)) == list(vars(net_class()))


def test_what_cannot_propagate_is_refused_with_what_to_do(monkeypatch):
    with pytest.raises(ValueError, match=r'call mmskip.convert\(\) on it'):
        propagate_changes(TinyNet())
    net = convert(TinyNet(), NORM)
    propagate_changes(net)
    with pytest.raises(ValueError, match=r'already.*mmskip.revert\(\) first'):
        propagate_changes(net)
    with pytest.raises(ValueError, match=r'mmskip.revert\(\) first'):
        propagate_changes(FlipTest(net))
    monkeypatch.setattr(native, 'MISSING', 'it is not built')
    with pytest.raises(ValueError, match='it is not built'):
        propagate_changes(convert(TinyNet(), NORM))


@pytest.mark.parametrize('shape', [(2, 4, 1, 1), (0, 4, 12, 12), (1, 4, 1, 9)])
def test_small_and_empty_images(shape):
    both = twins(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()))
    x = torch.randn(shape)

    for _ in range(3):
        both.show(x)
        both.show(x)
        x = x + torch.randn(shape)


def wide_net(precision):
    layers = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU()]
    for _ in range(3):
        layers += [nn.Conv2d(32, 32, 3, padding=1), nn.SiLU()]
    net = convert(nn.Sequential(*layers), NORM, 'accumulated')
    mmskip.accelerate(net, precision)
    return net


class Branches(nn.Module):
    """Branches of unlike depths that meet twice, and share a layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.branches = nn.ModuleList(
            nn.Sequential(
                *(nn.Conv2d(16, 16, 3, padding=1) for _ in range(depth)),
                nn.SiLU(),
            )
            for depth in (1, 3, 2)
        )
        self.shared = nn.Conv2d(16, 8, 1)

    def forward(self, x):
        x = self.stem(x).relu()
        for _ in range(2):
            ways = [branch(x) for branch in self.branches]
            x = ways[0] + ways[1] + ways[2]
        return torch.cat([self.shared(way) for way in (*ways, x)], dim=1)


def branching_net(precision):
    net = convert(Branches(), NORM, 'accumulated')
    mmskip.accelerate(net, precision)
    return net


def video_of(tops):
    video = [torch.randn(1, 3, 96, 96)]
    for top in tops:
        video.append(video[-1].clone())
        video[-1][..., top : top + 40, 20:70] = torch.randn(1, 3, 40, 50)
    return video


def results(net, video, threads):
    number = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.no_grad(), mmskip.stream(net):
            return [net(x) for x in video]
    finally:
        torch.set_num_threads(number)


@pytest.mark.parametrize('make', [wide_net, branching_net])
@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_results_do_not_depend_on_the_number_of_threads(make, precision):
    net, video = make(precision), video_of((8, 30, 50))

    one, other = results(net, video, 1), results(net, video, 4)

    assert all(map(torch.equal, one, other))


@pytest.fixture
def busy_cores():
    endless = [sys.executable, '-c', 'while True: pass']
    cores = 2 * (os.cpu_count() or 1)
    processes = [subprocess.Popen(endless) for _ in range(cores)]
    yield
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.usefixtures('busy_cores')
@pytest.mark.parametrize('make', [wide_net, branching_net])
def test_results_do_not_depend_on_who_else_is_at_work(make):
    # Threads lose their cores in the middle of a frame, and the leader goes
    # on alone.
    net, video = make('bfloat16'), video_of([8, 30, 50] * 20)

    one, other = results(net, video, 1), results(net, video, 4)

    assert all(map(torch.equal, one, other))

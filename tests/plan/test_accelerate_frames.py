"""Frames that a plan cannot run, and those after them."""

import gc
import threading
import weakref

import pytest
import torch
from torch import nn

import mmskip
from mmskip import StreamState
from mmskip.native import library as native
from mmskip.plan import propagate_changes
from mmskip.plan.accelerate import MOST_GRAPHS
from mmskip.plan.graph import trace
from mmskip.skip_conv import MEMORY_RULES
from tests.helpers.nets import TinyNet
from tests.helpers.twins import (
    GATES,
    NORM,
    SHAPE,
    Block,
    convert,
    eventful,
    patched,
    twins,
)

pytestmark = pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)


class Scaled(nn.Module):
    """Takes a number, and an object that it does not read."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x, factor=1.0, note=None):
        return self.last(self.norm(self.conv(x)).sigmoid() * factor)


def reports(both):
    """What ran of the propagated twin, without the names of its parts."""
    report = both.propagated.forward._report
    return {
        what: n for rows in report.rows.values() for what, n in rows.items()
    }


ODD_FRAMES = {
    'an object': lambda both, x: both.show(x, note=object()),
    'a batch of frames': lambda both, x: both.show(
        torch.cat([x, x]), num_frames=2
    ),
}


@pytest.mark.parametrize('kind', ODD_FRAMES)
def test_after_an_odd_frame_the_plan_comes_back(kind):
    both = twins(Scaled(), tolerance=1e-5)
    video = eventful(*SHAPE)
    both.watch(video[:4])

    ODD_FRAMES[kind](both, video[4])
    both.watch(video[5:])

    assert len(both.plans) == 1
    assert reports(both)['in a plan'] >= len(video) - 4
    without = [k for k in reports(both) if k.startswith('without a plan')]
    assert len(without) == 1


def test_after_a_frame_in_double_the_plan_comes_back():
    net = convert(Scaled(), NORM)
    propagate_changes(net)
    video = eventful(*SHAPE)
    with torch.no_grad(), mmskip.stream(net) as state:
        for x in video[:3]:
            net(x)
        net.double()(video[3].double())
        net.float()
        for x in video[4:7]:
            net(x)

    assert [type(plan).__name__ for plan in state.plans.values()] == ['Plan']


def test_a_norm_in_training_mode_for_a_frame():
    both = twins(Scaled(), tolerance=1e-5)
    video = eventful(*SHAPE)
    both.watch(video[:4])

    both.both(lambda net: net.norm.train())
    both.show(video[4])
    both.both(lambda net: net.norm.eval())
    both.watch(video[5:])

    assert len(both.plans) == 1
    assert reports(both)['without a plan: a part is in training mode'] == 1


def test_numbers_that_differ_in_each_frame_need_no_graphs():
    both = twins(Scaled(), tolerance=1e-5)
    x = torch.randn(SHAPE)

    for index in range(40):
        both.show(patched(x), factor=1 + index / 7)

    assert len(both.propagated.forward._graphs) == 1
    assert not both.plans


def test_graphs_of_many_kinds_of_arguments_are_bounded():
    both = twins(Scaled(), tolerance=1e-5)
    x = torch.randn(SHAPE)

    for factor in range(2 * MOST_GRAPHS):
        for _ in range(3):
            both.show(patched(x), factor=factor)

    assert len(both.propagated.forward._graphs) == MOST_GRAPHS
    assert len(both.plans) == 1


def test_pictures_of_alternating_sizes_make_no_plans():
    both = twins(Scaled(), tolerance=1e-5)
    sizes = (12, 12), (10, 14)

    for index in range(8):
        both.show(torch.randn(1, 4, *sizes[index % 2]))

    assert reports(both) == {
        'recorded for a plan': 1,
        'without a plan: other arguments in each frame': 7,
    }


class Either(nn.Module):
    """Can be traced in one mode and not in the other."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 4, 1))

    def forward(self, x, mode='plain'):
        x = self.body(x)
        if mode == 'branch' and x.sum() > 1e9:
            return -x
        return x


def test_what_cannot_be_traced_in_one_way_can_in_another():
    both = twins(Either())
    video = eventful(*SHAPE)

    both.watch(video, mode='branch')
    parts = len(both.plans)
    both.watch(video)

    report = both.propagated.forward._report
    assert parts == 1
    assert report.rows['body']['in a plan'] == len(video) - 1
    assert report.rows['']['in a plan'] == len(video) - 1
    assert 'its parts may have some' in str(report)


@pytest.mark.parametrize('memory', MEMORY_RULES)
@pytest.mark.parametrize('gate', GATES)
def test_a_reset_uses_the_plan_again(gate, memory):
    both = twins(Block(), GATES[gate], memory)
    both.watch(eventful(2, 4, 12, 12)[:6])
    (plan,) = both.plans
    held = both.states[1].nbytes

    for state in both.states:
        state.reset()
    assert both.states[1].nbytes == held
    both.watch(eventful(2, 4, 12, 12))

    assert both.plans == [plan]
    assert both.states[1].nbytes == held
    assert reports(both)['first frames of videos, in a plan'] == 1


@pytest.mark.parametrize('memory', MEMORY_RULES)
@pytest.mark.parametrize('gate', GATES)
def test_another_stream_begins_in_a_plan(gate, memory):
    both = twins(Block(), GATES[gate], memory)
    both.watch(eventful(2, 4, 12, 12)[:3])
    first = both.states
    both.restart()
    both.watch(eventful(2, 4, 12, 12))

    assert reports(both)['recorded for a plan'] == 1
    assert reports(both)['first frames of videos, in a plan'] == 1
    both.restart(first)
    both.watch(eventful(2, 4, 12, 12)[3:])  # from its own memory


def test_the_first_frame_of_another_stream_is_counted_as_such():
    both = twins(nn.Sequential(Block()))
    both.show(torch.randn(1, 4, 12, 12))
    both.restart()

    counts = both.count(torch.randn(1, 4, 12, 12))

    assert all(c.reference == c.executed == c.dense for c in counts.values())


def test_another_stream_that_fails_in_its_first_frame_begins_anew():
    layers = nn.Conv2d(4, 4, 3, padding=1), nn.LayerNorm(12)
    both = twins(nn.Sequential(*layers))
    x = torch.randn(1, 4, 12, 12)
    both.show(x)
    both.restart()
    net, state = both.propagated, both.states[1]
    net[1].normalized_shape = (13,)
    with (
        pytest.raises(RuntimeError, match='normalized_shape'),
        torch.no_grad(),
        mmskip.stream(net, state),
    ):
        net(x)
    assert not state.slots

    net[1].normalized_shape = (12,)
    both.watch(eventful(1, 4, 12, 12))


def test_a_reset_is_counted_as_a_reference_frame():
    both = twins(nn.Sequential(Block()))
    for x in eventful(1, 4, 12, 12)[:3]:
        both.show(x)
    for state in both.states:
        state.reset()

    counts = both.count(torch.randn(1, 4, 12, 12))

    assert all(c.reference == c.executed == c.dense for c in counts.values())


@torch.no_grad()
def _negate(net):
    net.stem.weight.mul_(-2)


def _permute_data(net):
    # No version counter tells, and no sum.
    net.stem.weight.data.copy_(net.stem.weight.data.flip(0))


def _move_norm_data(net):
    net.norm.running_mean.data.add_(1)


class Normed(Block):
    """Has a norm that is computed with the sum before it."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        return super().forward(self.norm(x + x))


@pytest.mark.parametrize('write', [_negate, _permute_data, _move_norm_data])
def test_new_weights_at_a_reset_are_those_that_run(write):
    both = twins(Normed(), tolerance=1e-5)
    both.watch(eventful(1, 4, 12, 12)[:4])

    both.both(write)
    for state in both.states:
        state.reset()
    both.watch(eventful(1, 4, 12, 12)[:6])

    assert len(both.plans) == 1


def test_a_state_that_goes_to_another_model_takes_no_plan_along():
    first, second = twins(TinyNet()), twins(TinyNet())
    video = eventful(1, *TinyNet.shape)
    first.watch(video[:3])

    for state in first.states:
        state.reset()
    second.restart(first.states)
    second.watch(video)

    assert len(second.plans) == 1


class Boxes(nn.Module):
    """A backbone that is planned, and a head on 100 boxes that is not."""

    def __init__(self):
        super().__init__()
        self.backbone = Block()
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        wide = self.backbone(x)[1]
        boxes = wide.flatten(2)[0].t()[:100]
        if boxes.sum() > 1e9:
            return boxes
        return self.head(boxes)


@pytest.mark.parametrize('batch', [1, 3])
def test_frames_are_counted_at_the_root_with_and_without_a_plan(batch):
    for net in (Block(), Boxes()):
        both = twins(net)
        video = eventful(batch, 4, 12, 12)[:5]
        counted = []
        for one, state in zip(both.nets, both.states, strict=True):
            with (
                torch.no_grad(),
                mmskip.count_macs(one) as macs,
                mmskip.stream(one, state),
            ):
                for x in video:
                    one(x.clone())
            counted.append((macs.frames, macs.total(), macs.per_frame()))

        assert counted[0][0] == counted[1][0] == 5 * batch
        assert counted[0] == counted[1]


@pytest.mark.parametrize('batch', [1, 3])
def test_a_plan_counts_the_outputs_that_its_masks_show(batch):
    both = twins(Block())
    for x in eventful(batch, 4, 12, 12)[:5]:
        both.show(x)
        for plan in both.plans:
            if plan.runs:
                shown = [int(conv.mask.sum()) for conv in plan.convs]
                assert plan._frame.native.computed() == shown


def test_a_stream_that_ends_leaves_nothing_to_the_garbage_collector():
    net = convert(Block(), NORM)
    propagate_changes(net)
    gc.collect()
    gc.disable()
    try:
        with torch.no_grad(), mmskip.stream(net) as state:
            for x in eventful(1, 4, 12, 12)[:4]:
                net(x)
            held = [weakref.ref(state), weakref.ref(*state.plans.values())]
        del state
        assert not any(ref() for ref in held)
    finally:
        gc.enable()


class Waiting(nn.Module):
    """Stops in the middle of its forward until it is told to go on."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(4, 4, 1)
        self.reached, self.go_on = threading.Event(), threading.Event()

    def forward(self, x):
        x = self.a(x)
        self.reached.set()
        assert self.go_on.wait(20)
        return x + 1


def test_other_threads_run_their_models_while_one_is_traced():
    net = convert(nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1)), NORM)
    waiting = Waiting()
    convert(waiting, NORM)
    x = torch.randn(SHAPE)
    expected = net(x)
    graphs = []
    tracer = threading.Thread(
        target=lambda: graphs.append(trace(waiting, (x,), {}))
    )
    tracer.start()
    assert waiting.reached.wait(20)

    try:
        found = net(x)
        other = waiting.a(x)
    finally:
        waiting.go_on.set()
        tracer.join()

    assert torch.equal(found, expected)
    assert torch.equal(other, waiting.a(x))
    assert [node.op for node in graphs[0].nodes].count('call_module') == 1
    assert type(waiting) is Waiting


def test_streams_in_two_threads_begin_at_once():
    nets = [convert(Block(), NORM) for _ in range(2)]
    video = eventful(1, 4, 12, 12)
    results, errors = {}, []

    def run(index, net):
        try:
            with torch.no_grad():
                for _ in range(5):
                    with mmskip.stream(net, StreamState()):
                        results[index] = [net(x)[0] for x in video]
        except Exception as error:
            errors.append(error)

    expected = {}
    for index, net in enumerate(nets):
        run(index, net)
    expected.update(results)
    for net in nets:
        propagate_changes(net)
    threads = [
        threading.Thread(target=run, args=item) for item in enumerate(nets)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not errors
    for index, outputs in expected.items():
        for a, b in zip(outputs, results[index], strict=True):
            assert torch.equal(a, b)


def test_the_report_says_when_nothing_has_run():
    net = convert(Scaled(), NORM)

    report = propagate_changes(net)

    assert 'No frame' in str(report)
    with torch.no_grad(), mmskip.stream(net):
        net(torch.randn(SHAPE))
        net(torch.randn(SHAPE))
    assert '(the whole model): 1 in a plan' in str(report)

"""What happens to plans while a stream goes on."""

import copy
import pickle

import pytest
import torch
from torch import nn

import mmskip
from mmskip import StreamPolicy, StreamState
from mmskip.native import library as native
from mmskip.plan.plan import PlannedConv
from mmskip.skip_conv import MEMORY_RULES
from tests.helpers.nets import SETTINGS, TinyNet, change_setting
from tests.helpers.twins import (
    GATES,
    SHAPE,
    Block,
    eventful,
    patched,
    twins,
)

pytestmark = pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)


def test_another_size_and_back_are_counted_as_in_the_stream():
    both = twins(TinyNet())
    video = eventful(1, 3, 16, 16)

    for x in (*video[:4], *eventful(1, 3, 24, 20)[:4], *video[3:8]):
        both.show(x)

    plain, propagated = both.states
    assert plain.shape_changes == propagated.shape_changes == 6
    assert plain.frames == propagated.frames


def test_states_alternate_and_are_reset():
    both = twins(TinyNet())
    states = [(StreamState(), StreamState()) for _ in range(2)]
    videos = [eventful(1, *TinyNet.shape) for _ in states]

    for index, frames in enumerate(zip(*videos, strict=True)):
        for pair, x in zip(states, frames, strict=True):
            both.restart(pair)
            both.show(x)
        if index == 5:
            (plan,) = both.plans
            for state in states[1]:
                state.reset()
    assert both.plans == [plan]


@pytest.mark.parametrize('memory', MEMORY_RULES)
def test_frames_of_another_kind_in_between(memory, monkeypatch):
    both = twins(Block(), memory=memory)
    video = iter(eventful(2, 4, 12, 12))
    for _ in range(3):
        both.show(next(video))

    both.show(next(video), num_frames=2)
    for _ in range(2):
        both.show(next(video))
    with torch.enable_grad():
        for net, state in zip(both.nets, both.states, strict=True):
            with mmskip.stream(net, state), pytest.warns(match='gradi'):
                net(torch.ones(2, 4, 12, 12))
    for _ in range(2):
        both.show(next(video))
    both.both(nn.Module.train)
    both.show(next(video))
    both.both(nn.Module.eval)
    for _ in range(2):
        both.show(next(video))
    monkeypatch.setenv('MMSKIP_BACKEND', 'reference')
    both.tolerance = 1e-5
    both.show(next(video))
    monkeypatch.setenv('MMSKIP_BACKEND', 'native')
    for _ in range(3):
        both.show(next(video))
    assert len(both.plans) == 1


@pytest.mark.parametrize('setting', SETTINGS)
@pytest.mark.parametrize('memory', MEMORY_RULES)
@torch.no_grad()
def test_what_is_changed_in_mid_stream_is_what_runs(setting, memory):
    silu = setting == 'activation'
    both = twins(TinyNet(), memory=memory, tolerance=1e-5 * silu)
    video = eventful(1, *TinyNet.shape)

    for index, x in enumerate(video):
        if index in (2, 4, 7):
            value = {2: -1.0, 4: 0.02, 7: 0.5}[index]
            both.both(
                lambda net, v=value: change_setting(net.body, setting, v)
            )
        both.show(x)
        both.show(x)


class Stateful(nn.Module):
    """Weights of all kinds beside Skip-Convolutions."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.last = nn.Conv2d(4, 4, 1)
        self.scale = nn.Parameter(torch.rand(1, 4, 1, 1))
        self.register_buffer('shift', torch.rand(1, 4, 12, 12))
        self.linear = nn.Linear(12, 3)

    def forward(self, x):
        x = self.norm(self.conv(x)) * (2 * self.scale) + self.shift
        return self.linear(self.last(x))


WRITES = {
    'weight of a norm': lambda net: net.norm.weight.mul_(2),
    'statistics': lambda net: net.norm.running_mean.add_(1),
    'new bias': lambda net: setattr(
        net.linear, 'bias', nn.Parameter(torch.ones(3))
    ),
    'data': lambda net: setattr(net.linear.weight, 'data', torch.ones(3, 12)),
    'parameter': lambda net: net.scale.add_(1),
    'buffer': lambda net: net.shift.mul_(3),
    'state dict': lambda net: net.load_state_dict(
        {k: v + 1 for k, v in net.state_dict().items()}
    ),
    'assigned': lambda net: net.load_state_dict(
        {k: v + 1 for k, v in net.state_dict().items()}, assign=True
    ),
}


@pytest.mark.parametrize('name', WRITES)
@torch.no_grad()
def test_other_weights_that_change_in_mid_stream_are_noticed(name):
    both = twins(Stateful(), tolerance=1e-5)
    video = eventful(*SHAPE)
    for x in video[:4]:
        both.show(x)

    before = both.show(video[3])
    both.both(WRITES[name])

    # A frame without any change.
    after = both.show(video[3])
    assert not torch.equal(*before, *after)
    both.watch(video[4:])
    assert len(both.plans) == 1


def test_weights_that_are_computed_anew_run_as_before():
    net = TinyNet()
    nn.utils.parametrizations.weight_norm(net.body)
    both = twins(net)
    video = eventful(1, *TinyNet.shape)

    for index, x in enumerate(video):
        if index == 3:
            with torch.no_grad():
                both.both(
                    lambda n: n.body.parametrizations.weight.original0.mul_(2)
                )
        both.show(x)


@pytest.mark.parametrize('memory', MEMORY_RULES)
@torch.no_grad()
def test_data_of_a_weight_that_is_replaced_is_noticed(memory):
    both = twins(TinyNet(), memory=memory)

    for x in eventful(1, *TinyNet.shape):
        both.show(x)
        both.both(_replace_data)


@pytest.mark.parametrize('memory', MEMORY_RULES)
@torch.no_grad()
def test_a_weight_is_replaced_before_a_frame_of_the_policy(memory):
    both = twins(TinyNet(), memory=memory)
    policy = StreamPolicy(reset_interval=2, cut_share=None)
    both.restart([StreamState(policy) for _ in range(2)])

    for index, x in enumerate(eventful(1, *TinyNet.shape)):
        if index == 4:
            both.both(_replace_data)
        both.show(x)

    assert both.states[1].restarts['interval'] > 2


@torch.no_grad()
def test_frames_of_the_policy_trust_the_weights_as_others_do(monkeypatch):
    both = twins(TinyNet())
    policy = StreamPolicy(reset_interval=2, cut_share=None)
    both.restart([StreamState(policy) for _ in range(2)])
    video = eventful(1, *TinyNet.shape)
    both.watch(video[:4])
    monkeypatch.setattr(PlannedConv, 'has_its_weights', _fail)

    both.watch(video[4:])

    both.states[1].reset()
    with pytest.raises(ArithmeticError):
        both.watch(video[:1])


def _replace_data(net):
    net.body.weight.data = 1.1 * net.body.weight.data


class Breaking(nn.Module):
    """Raises in the middle when told to."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.second = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return self.second(self.norm(self.first(x)))


def test_a_frame_that_fails_is_forgotten():
    both = twins(Breaking(), dict(type='InputNormGate', threshold=0.0))
    both.tolerance = 1e-5
    video = eventful(*SHAPE)
    for x in video[:2]:
        both.show(x)

    x = patched(video[1])
    for net, state in zip(both.nets, both.states, strict=True):
        handle = net.norm.register_forward_pre_hook(_fail)
        with (
            torch.no_grad(),
            mmskip.stream(net, state),
            pytest.raises(ArithmeticError),
        ):
            net(x)
        handle.remove()

    both.show(x)
    both.watch(video)


def _fail(*_):
    raise ArithmeticError


def test_inference_mode_and_no_grad_take_turns():
    net = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1), nn.Sigmoid(), nn.Conv2d(4, 4, 1)
    )
    for gate in ('input', 'residual'):
        both = twins(copy.deepcopy(net), GATES[gate], tolerance=1e-5)
        for index, x in enumerate(eventful(*SHAPE)):
            with torch.inference_mode(index % 4 < 2):
                both.show(x)
        assert len(both.plans) == 1


def test_a_model_of_inference_tensors_runs_as_before():
    with torch.inference_mode():
        both = twins(TinyNet())
        both.watch(eventful(1, *TinyNet.shape))


@pytest.mark.parametrize(
    'duplicate',
    [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))],
    ids=['deepcopy', 'pickle'],
)
@torch.no_grad()
def test_a_copy_is_independent(duplicate):
    both = twins(TinyNet())
    video = eventful(1, *TinyNet.shape)
    both.watch(video[:4])
    twin = duplicate(both.propagated)

    twin.classifier.weight.zero_()
    twin.classifier.bias.fill_(3)

    with mmskip.stream(twin) as state:
        assert all((twin(x) == 3).all() for x in video)
    assert len(state.plans) == 1
    both.watch(video[4:])


def test_a_state_is_pickled_without_its_plans():
    both = twins(TinyNet())
    video = eventful(1, *TinyNet.shape)
    both.watch(video[:5])

    both.restart([pickle.loads(pickle.dumps(s)) for s in both.states])

    assert not both.plans
    both.watch(video[5:])
    assert len(both.plans) == 1


def test_a_plan_adds_to_what_the_state_holds():
    both = twins(TinyNet())

    both.watch(eventful(1, *TinyNet.shape)[:3])

    plain, propagated = both.states
    assert propagated.nbytes > plain.nbytes

"""The policy at one place."""

import copy

import pytest
import torch
from torch import nn

import mmskip
from mmskip.sof_net import StopOrForwardHead

C, E, H = 6, 4, 5


def head(**options):
    options = dict(hidden_channels=H, embed_channels=E) | options
    return StopOrForwardHead(C, **options)


def test_a_step_is_the_equations():
    policy = head()
    x, state = torch.randn(3, C, 2, 4), torch.randn(3, 2, H)
    step = policy.step(policy.embed(x), state)
    pooled = policy.embedding(x.mean((2, 3)))
    hidden, cell = policy.memory(pooled, (state[:, 0], state[:, 1]))
    q = policy.gate(hidden)
    torch.testing.assert_close(step.margin, q[:, 1] - q[:, 0])
    torch.testing.assert_close(step.hidden, hidden)
    torch.testing.assert_close(step.state, torch.stack([hidden, cell], 1))


def test_the_cell_is_a_single_layer_lstm_over_frames():
    policy = head()
    lstm = nn.LSTM(E, H)
    for name in ('weight_ih', 'weight_hh', 'bias_ih', 'bias_hh'):
        getattr(lstm, f'{name}_l0').data = getattr(policy.memory, name).data
    x, state = torch.randn(4, 3, E), policy.initial_state(3)
    expected, _ = lstm(x)
    for frame, hidden in zip(x, expected, strict=True):
        step = policy.step(frame, state)
        state = step.state
        torch.testing.assert_close(step.hidden, hidden)


def test_the_defaults_are_the_thesis_and_its_code():
    policy = StopOrForwardHead(64)
    assert (policy.hidden_channels, policy.temperature) == (512, 5.0)
    assert policy.embedding.out_features == 64
    assert policy.classifier is None


def test_it_starts_inclined_to_forward():
    policy = StopOrForwardHead(C, forward_bias=3.0)
    x = policy.embed(torch.randn(50, C, 2, 2))
    step = policy.step(x, policy.initial_state(50))
    torch.testing.assert_close(
        step.margin, torch.full((50,), 3.0), atol=0.05, rtol=0
    )


def test_without_memory_the_past_makes_no_difference():
    policy = head(temporal=False)
    x, state = torch.randn(3, C, 2, 2), policy.initial_state(3)
    assert state.shape == (3, 2, 0)
    first = policy.step(policy.embed(x), state)
    again = policy.step(policy.embed(x), first.state)
    assert torch.equal(first.margin, again.margin)
    assert (first.hidden >= 0).all()


def test_draws_are_as_likely_as_the_softmax_of_q():
    policy = head()
    margin = torch.full((20000,), 0.7)
    for temperature in (5.0, 0.5):
        policy.temperature = temperature
        drawn = policy.draw(margin)
        assert set(drawn.tolist()) == {0.0, 1.0}
        assert drawn.mean() == pytest.approx(0.668, abs=0.015)


def test_draws_have_gradients():
    margin = torch.zeros(8, requires_grad=True)
    head().draw(margin).sum().backward()
    assert (margin.grad > 0).all()


@pytest.mark.parametrize(
    ('options', 'macs'),
    [
        ({}, C * E + 4 * H * (E + H) + 2 * H),
        (dict(temporal=False), C * E + E * H + 2 * H),
        (dict(num_classes=9), C * E + 4 * H * (E + H) + 2 * H),
    ],
)
def test_its_macs_are_overhead_to_the_integer(options, macs):
    policy = head(**options)
    assert policy.frame_macs == macs
    with mmskip.count_macs(nn.Sequential(policy)) as ledger:
        policy(torch.randn(7, C, 3, 3))
        if policy.temporal:
            policy(torch.randn(1, H), recurrent=True)
    assert ledger.total() == (0, 0, 7 * macs, 0)
    assert list(ledger.by_module()) == ['0']


def test_copies_leave_the_ledger_behind():
    policy = head()
    with mmskip.count_macs(policy):
        twin = copy.deepcopy(policy)
    assert twin._ledger is policy._ledger is None


@pytest.mark.parametrize(
    'options',
    [
        dict(hidden_channels=0),
        dict(embed_channels=-1),
        dict(hidden_channels=2.0),
        dict(temperature=0),
    ],
)
def test_options_out_of_range_are_refused(options):
    (name,) = options
    with pytest.raises(ValueError, match=f'expected {name}'):
        head(**options)

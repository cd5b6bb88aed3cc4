"""Binary decisions with gradients."""

import pytest
import torch

from mmskip.core import draw_gate, sample_gate


def test_decisions_are_exactly_zero_or_one():
    drawn = sample_gate(torch.randn(10000), 2 / 3)

    assert set(drawn.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize('temperature', [0.1, 2 / 3, 5.0])
@pytest.mark.parametrize('logit', [-2.0, 0.0, 1.0])
def test_a_one_is_drawn_with_the_probability_of_the_sigmoid(
    logit, temperature
):
    logits = torch.full((200_000,), logit)

    share = sample_gate(logits, temperature).mean()

    # Five standard deviations of the mean of so many draws.
    expected = logits[:1].sigmoid().item()
    assert share.item() == pytest.approx(expected, abs=0.006)


def test_the_gradient_is_that_of_the_relaxed_decision():
    logits = torch.randn(1000, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(1000, dtype=torch.float64)
    torch.manual_seed(1)
    (weights * sample_gate(logits, 0.7)).sum().backward()

    torch.manual_seed(1)
    limits = torch.finfo(torch.float64)
    uniform = torch.rand(1000, dtype=torch.float64)
    uniform = uniform.clamp(limits.tiny, 1 - limits.eps)
    relaxed = torch.sigmoid((logits + torch.logit(uniform)) / 0.7)
    (expected,) = torch.autograd.grad((weights * relaxed).sum(), logits)
    torch.testing.assert_close(logits.grad, expected)


def test_draws_follow_the_seed():
    logits = torch.zeros(100)
    torch.manual_seed(3)
    first = sample_gate(logits, 1.0)
    torch.manual_seed(3)

    assert torch.equal(sample_gate(logits, 1.0), first)


def test_probabilities_are_told_with_their_own_gradient():
    logits = torch.randn(100, dtype=torch.float64, requires_grad=True)

    mask, probability = draw_gate(logits, 0.7)

    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    torch.testing.assert_close(probability, logits.sigmoid())
    (grad,) = torch.autograd.grad(probability.sum(), logits)
    torch.testing.assert_close(grad, probability * (1 - probability))

"""Gates that close for good."""

import pytest
import torch

from mmskip.compression import HardConcreteGate


@pytest.mark.parametrize('start', [-2.0, 0.0, 2.5])
def test_the_probability_is_that_of_the_draws(start):
    torch.manual_seed(0)
    gate = HardConcreteGate(20_000, start)

    share = (gate() > 0).float().mean()

    assert share.item() == pytest.approx(
        gate.open_probability().mean().item(), abs=0.01
    )


def test_draws_reach_both_ends_and_what_lies_between():
    torch.manual_seed(0)
    draws = HardConcreteGate(5_000, 0.0)()

    assert (draws == 0).any()
    assert (draws == 1).any()
    assert ((draws > 0) & (draws < 1)).any()
    assert 0 <= draws.min() <= draws.max() <= 1


def test_inference_is_deterministic():
    gate = HardConcreteGate(3, 0.0).eval()
    gate.log_alpha.data = torch.tensor([-3.0, 0.0, 2.5])

    assert torch.equal(gate(), torch.tensor([0.0, 0.5, 1.0]))


def test_gates_learn_by_draws_and_by_their_probability():
    torch.manual_seed(0)
    gate = HardConcreteGate(50, 0.0)

    for value in (gate(), gate.open_probability()):
        (gradient,) = torch.autograd.grad(value.sum(), gate.log_alpha)
        assert gradient.sum() > 0


def test_gates_are_of_the_kind_of_a_tensor():
    gate = HardConcreteGate(3, 0.0, torch.zeros(1, dtype=torch.float64))

    assert gate.log_alpha.dtype == torch.float64

"""The loss that makes gates close."""

import pytest
import torch

from mmskip.core import GateCost
from mmskip.registry import build_own
from mmskip.skip_conv import GateCostLoss


def cost(dense, expected, hard):
    return GateCost(
        dense, torch.tensor(expected, requires_grad=True), torch.tensor(hard)
    )


def test_layers_weigh_as_much_as_they_compute():
    entries = GateCostLoss(beta=0.1)(
        [cost(300, 0.5, 0.4), cost(100, 0.1, 0.0)]
    )

    assert entries['gate_cost_expected'].item() == pytest.approx(0.4)
    assert entries['gate_cost_hard'].item() == pytest.approx(0.3)
    assert entries['loss_gate'].item() == pytest.approx(0.04)


def test_only_the_loss_is_summed_and_has_a_gradient():
    entries = GateCostLoss(beta=1.0)([cost(10, 0.5, 1.0)])

    assert [name for name in entries if 'loss' in name] == ['loss_gate']
    assert [n for n, e in entries.items() if e.requires_grad] == ['loss_gate']


def test_the_loss_does_not_depend_on_the_size_of_the_model():
    small = GateCostLoss(1.0)([cost(1, 0.25, 0.0), cost(3, 0.5, 0.0)])
    large = GateCostLoss(1.0)(
        [cost(10**12, 0.25, 0.0), cost(3 * 10**12, 0.5, 0.0)]
    )

    torch.testing.assert_close(small['loss_gate'], large['loss_gate'])


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match='beta >= 0'):
        build_own(dict(type='GateCostLoss', beta=-0.1))

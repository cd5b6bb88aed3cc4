"""The cost of forwarding."""

import pytest
import torch

from mmskip.sof_net import EfficiencyLoss

REMAINING = (3_000_000_000, 1_000_000_000, 0)


def test_it_is_the_mean_over_frames_and_policies_in_gmac():
    actions = torch.tensor([[[1.0, 1, 1], [1, 0, 0]], [[0, 0, 0], [1, 1, 0]]])
    loss = EfficiencyLoss()(actions, REMAINING, 4_000_000_000)
    assert float(loss) == pytest.approx((3 + 1 + 3 + 3 + 1) / 12)


def test_a_share_does_not_depend_on_the_size_of_the_network():
    actions = torch.ones(1, 2, 3)
    loss = EfficiencyLoss(unit='share')
    small = loss(actions, [r // 1000 for r in REMAINING], 4_000_000)
    large = loss(actions, REMAINING, 4_000_000_000)
    assert float(small) == float(large) == pytest.approx((0.75 + 0.25) / 3)


def test_the_gradient_is_the_cost():
    actions = torch.ones(1, 1, 3, requires_grad=True)
    EfficiencyLoss()(actions, REMAINING, 4_000_000_000).backward()
    assert actions.grad.flatten().tolist() == pytest.approx([1, 1 / 3, 0])


def test_an_unknown_unit_is_refused():
    with pytest.raises(ValueError, match="'gmac', 'share'"):
        EfficiencyLoss(unit='gflop')

"""What the gates of a layer let through in a training clip."""

import pytest
import torch

import mmskip
from mmskip import SkipConversion
from mmskip.core import GateCost


def test_masks_and_probabilities_are_averaged_over_frames():
    drawn = [
        (torch.tensor([1.0, 1.0]), torch.tensor([0.9, 0.7])),
        (torch.tensor([0.0, 1.0]), torch.tensor([0.2, 0.6])),
    ]

    cost = GateCost.of(100, drawn)

    assert cost.dense == 100
    assert cost.hard.item() == 0.75
    assert cost.expected.item() == pytest.approx(0.6)


def test_only_probabilities_carry_gradients():
    mask, probability = (torch.rand(4, requires_grad=True) for _ in range(2))

    cost = GateCost.of(1, [(mask, probability)])

    assert cost.expected.requires_grad
    assert not cost.hard.requires_grad


@pytest.mark.parametrize('rule', ['previous', 'accumulated'])
def test_the_cost_of_a_clip_is_that_of_the_frames_after_the_first(rule):
    conv = torch.nn.Conv2d(3, 4, 3, padding=1)
    gate = dict(type='GumbelGate', bias=1.0)
    mmskip.convert(conv, SkipConversion(gate, memory=rule))
    frame_macs = 2 * 6 * 5 * 4 * 3 * 9  # two clips

    with mmskip.clip(conv, 4), mmskip.count_macs(conv) as macs:
        conv(torch.randn(8, 3, 6, 5))
        (cost,) = conv._binding.costs

    total = macs.total()
    assert cost.dense == 3 * frame_macs
    assert cost.expected.item() == pytest.approx(
        torch.tensor(1.0).sigmoid().item()
    )
    assert total.dense == 4 * frame_macs
    assert total.reference == frame_macs
    assert total.executed == frame_macs + round(cost.hard.item() * cost.dense)
    assert total.overhead == 3 * 2 * 6 * 5 * 3 * 9

"""Batches that run in turns."""

import pytest
import torch

from mmskip.core import in_turns, samples_together


@pytest.mark.parametrize(
    ('samples', 'sizes'), [(1, [1] * 7), (3, [3, 3, 1]), (6, [4, 3]), (7, [7])]
)
def test_turns_are_no_larger_than_allowed_and_in_order(samples, sizes):
    seen = []

    def run(x):
        seen.append(len(x))
        return 2 * x

    x = torch.randn(7, 2)
    assert torch.equal(in_turns(run, x, samples), 2 * x)
    assert seen == sizes


def test_several_results_are_joined_one_by_one():
    x = torch.randn(5, 2)
    both = in_turns(lambda part: (part, -part), x, 2)
    assert isinstance(both, tuple)
    assert torch.equal(both[0], x)
    assert torch.equal(both[1], -x)


def test_channels_last_stays():
    x = torch.randn(5, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    y = in_turns(torch.relu, x, 2)
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ('shape', 'samples'),
    [
        ((3, 224, 224), 6),
        ((3, 168, 168), 12),
        ((3, 8, 96, 96), 2),
        ((3, 16, 112, 112), 1),
        ((3, 4000, 4000), 1),
    ],
)
def test_large_inputs_run_in_small_turns(shape, samples):
    assert samples_together(shape) == samples

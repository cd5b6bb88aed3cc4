"""What an iteration draws depends on nothing that was drawn before."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmskip.engine import IterSeedHook


def draw():
    return (
        random.random(),
        float(np.random.rand()),  # noqa: NPY002
        float(torch.rand(())),
    )


def draws(part='iter', seed=0, rank=0, iteration=0):
    runner = SimpleNamespace(seed=seed, rank=rank, iter=iteration)
    if part == 'iter':
        IterSeedHook().before_train_iter(runner, 0)
    else:
        IterSeedHook().before_train_epoch(runner)
    return draw()


@pytest.mark.parametrize('part', ['iter', 'epoch'])
def test_the_draws_are_those_of_the_iteration_whatever_came_before(part):
    first = draws(part, iteration=7)
    draw()

    assert draws(part, iteration=7) == first


@pytest.mark.parametrize(
    'other',
    [dict(seed=1), dict(rank=1), dict(iteration=1), dict(part='epoch')],
    ids=str,
)
def test_seeds_ranks_and_iterations_draw_different_numbers(other):
    for one, another in zip(draws(), draws(**other), strict=True):
        assert one != another

"""Poses and what is handled."""

import pytest

from mmskip.datasets.toy.acting import ACTIONS, STANDING, stand


@pytest.mark.parametrize('action', ACTIONS.values(), ids=ACTIONS)
def test_a_movement_is_a_cycle_of_whole_bodies(action):
    start, _ = action(0.0)
    end, _ = action(1.0)
    assert set(start) == set(STANDING)
    for name, point in start.items():
        assert end[name] == pytest.approx(point)


@pytest.mark.parametrize('action', ACTIONS.values(), ids=ACTIONS)
def test_something_moves_and_something_is_handled(action):
    assert action(0.1) != action(0.35)
    assert action(0.1)[1]


def test_standing_about_handles_nothing():
    assert stand(0.3)[1] == ()

import math

import pytest

from mmskip.evaluation import (
    Budget,
    Choice,
    Cost,
    fit_scale,
    scaled,
    search_thresholds,
    share_at,
)
from mmskip.reading import InputError

# How much each layer's threshold disturbs the output.
HARM = {'a': 0.01, 'b': 1.0, 'c': 0.1, 'd': 10.0}
GROUPS = [[name] for name in HARM]


def measure(thresholds):
    """Layers of equal MACs that forgive skipping to different degrees."""
    error = math.hypot(*(HARM[n] * t for n, t in thresholds.items()))
    shares = [1 / (1 + t) for t in thresholds.values()]
    return Cost(error, sum(shares) / len(shares))


@pytest.mark.parametrize(
    'budget', [Budget(0.5), Budget(max_share=0.6)], ids=str
)
def test_a_threshold_per_layer_beats_one_for_all_within_the_budget(budget):
    single, best = search_thresholds(measure, GROUPS, 0.05, budget)
    assert len(set(single.thresholds.values())) == 1
    for choice in (single, best):
        assert measure(choice.thresholds) == choice.cost
        assert budget.used(choice.cost) <= 1
    gain = budget.objective(best.cost) / budget.objective(single.cost)
    assert gain < 0.8
    # What harms least is skipped most.
    order = sorted(HARM, key=best.thresholds.get)
    assert order == sorted(HARM, key=HARM.get, reverse=True)


def test_layers_of_a_group_share_a_threshold():
    groups = [['a', 'd'], ['b', 'c']]
    _, best = search_thresholds(measure, groups, 0.05, Budget(0.5))
    assert best.thresholds['a'] == best.thresholds['d']
    assert best.thresholds['b'] == best.thresholds['c']


def test_the_joint_factor_just_meets_the_budget():
    found = fit_scale(measure, dict.fromkeys(HARM, 1.0), Budget(5.0), runs=12)
    assert isinstance(found, Choice)
    assert 4.9 < found.cost.error <= 5.0


def test_a_budget_out_of_reach_is_refused():
    with pytest.raises(InputError, match='allow a larger error'):
        search_thresholds(lambda _: Cost(1, 1), GROUPS, 0.05, Budget(0.5))


@pytest.mark.parametrize(
    'bounds', [{}, dict(max_error=0), dict(max_error=1, max_share=1)]
)
def test_a_budget_is_one_positive_bound(bounds):
    with pytest.raises(ValueError, match='one positive bound'):
        Budget(**bounds)


def test_shares_between_points_are_interpolated_and_never_extrapolated():
    curve = [Cost(0.1, 0.5), Cost(0.0, 1.0), Cost(0.001, 0.9)]
    assert share_at(curve, 0.01) == pytest.approx(0.7)
    assert share_at(curve, 0.1) == pytest.approx(0.5)
    assert share_at(curve, 0.2) is None


def test_scaled_leaves_its_argument_alone():
    thresholds = dict(a=1.0)
    assert scaled(thresholds, 2) == dict(a=2.0)
    assert thresholds == dict(a=1.0)

"""Average precision against its definitions, spelled out."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from mmskip.evaluation import average_precision, interpolated_average_precision


def curve(scores, positives):
    """``(recall, precision)`` after each video, best first, as fractions."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    hits, points = 0, []
    for rank, index in enumerate(order, 1):
        hits += bool(positives[index])
        points.append((Fraction(hits, sum(positives)), Fraction(hits, rank)))
    return points


def official(scores, positives):
    """ActivityNet's: sum of recall steps times the best precision beyond."""
    points = curve(scores, positives)
    area, last = Fraction(0), Fraction(0)
    for index, (recall, _) in enumerate(points):
        best = max(precision for _, precision in points[index:])
        area += (recall - last) * best
        last = recall
    return float(area)


def plain(scores, positives):
    """Sum over positives of the precision at their rank, by their number."""
    points = [(Fraction(0), None), *curve(scores, positives)]
    found = [
        precision
        for (before, _), (recall, precision) in itertools.pairwise(points)
        if recall > before
    ]
    return float(sum(found) / len(found))


@pytest.mark.parametrize('seed', range(30))
def test_both_variants_are_their_definitions(seed):
    rng = np.random.default_rng(seed)
    # Few values: many scores are equal.
    scores = rng.integers(0, 6, 17) / 5
    positives = rng.random(17) < 0.4
    positives[rng.integers(17)] = True
    assert average_precision(scores, positives) == pytest.approx(
        plain(scores.tolist(), positives.tolist()), abs=1e-12
    )
    assert interpolated_average_precision(scores, positives) == pytest.approx(
        official(scores.tolist(), positives.tolist()), abs=1e-12
    )


def test_by_hand():
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    positives = np.array([False, True, True, False, True])
    assert average_precision(scores, positives) == pytest.approx(
        (1 / 2 + 2 / 3 + 3 / 5) / 3
    )
    assert interpolated_average_precision(scores, positives) == pytest.approx(
        (2 / 3 + 2 / 3 + 3 / 5) / 3
    )


@pytest.mark.parametrize(
    'function', [average_precision, interpolated_average_precision]
)
def test_a_perfect_ranking_is_one_and_no_positive_is_nan(function):
    scores = np.array([0.1, 0.9, 0.8])
    assert function(scores, np.array([False, True, True])) == 1.0
    assert np.isnan(function(scores, np.zeros(3, bool)))


def test_plain_is_the_hosts_without_equal_scores():
    accuracy = pytest.importorskip('mmaction.evaluation')
    rng = np.random.default_rng(0)
    scores = rng.permutation(40).reshape(20, 2) / 40.0
    truth = rng.random((20, 2)) < 0.5
    theirs = accuracy.mean_average_precision(list(scores), list(truth * 1))
    ours = [average_precision(scores[:, c], truth[:, c]) for c in (0, 1)]
    assert np.mean(ours) == pytest.approx(theirs)

"""Compare methods: rows over seeds, and accuracy at equal cost.

A row is a dict with ``method``, ``setting`` and the figures of a
:class:`Task`; with ``seed`` where it is one of several runs.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .task import DETECTION, Task

Row = Mapping[str, Any]


def mean_over_seeds(
    rows: Sequence[Row], task: Task = DETECTION
) -> list[dict[str, Any]]:
    """Average the rows of one method and setting.

    Args:
        rows: One per method, setting and seed.
        task: Which figures they have.

    Returns:
        A row per method and setting, in the order of the first ones, with
        the means, the spread of accuracy and cost under their names with
        ``_std`` behind (of the sample, n - 1; None for a single run) and
        ``seeds``, their number.
    """
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault((row['method'], row['setting']), []).append(row)
    means = []
    for runs in groups.values():
        mean = {key: value for key, value in runs[0].items() if key != 'seed'}
        for key in task.figures:
            mean[key] = _mean([run.get(key) for run in runs])
        for key in (task.accuracy, task.cost):
            values = [run[key] for run in runs]
            spread = statistics.stdev(values) if len(values) > 1 else None
            mean[f'{key}_std'] = spread
        means.append(dict(mean, seeds=len(runs)))
    return means


def accuracy_at(
    rows: Sequence[Row], gmac: float, task: Task = DETECTION
) -> float | None:
    """Accuracy of a method at a cost, between the two settings around it.

    Args:
        rows: Of one method (and seed), one per setting.
        gmac: GMAC per frame, video or clip.
        task: What accuracy and cost are.

    Returns:
        Linear interpolation; None for a cost that lies outside of the
        settings' costs, as nothing is known there.
    """
    points = sorted((row[task.cost], row[task.accuracy]) for row in rows)
    # Both are sums of fractions: equal up to rounding is reached.
    slack = 1e-9 * gmac
    if not points[0][0] - slack <= gmac <= points[-1][0] + slack:
        return None
    return float(np.interp(gmac, *zip(*points, strict=True)))


def compare_at(
    rows: Sequence[Row], gmac: float, task: Task = DETECTION
) -> list[dict[str, Any]]:
    """Accuracy of every method at one cost.

    Interpolated for each seed by itself, then averaged.

    Args:
        rows: One per method, setting and seed.
        gmac: GMAC per frame, video or clip.
        task: What accuracy and cost are.

    Returns:
        Per method the accuracy and its spread under the task's names,
        ``seeds``, and the range of costs ``gmac_from`` to ``gmac_to`` that
        all its seeds reach; the accuracy is None where ``gmac`` is out of
        that range.
    """
    compared = []
    for method in dict.fromkeys(row['method'] for row in rows):
        runs: dict[Any, list[Row]] = {}
        for row in rows:
            if row['method'] == method:
                runs.setdefault(row.get('seed'), []).append(row)
        found = [accuracy_at(run, gmac, task) for run in runs.values()]
        costs = [[r[task.cost] for r in run] for run in runs.values()]
        spread = None
        if len(found) > 1 and None not in found:
            spread = statistics.stdev(found)
        compared.append(
            {
                'method': method,
                'gmac': gmac,
                task.accuracy: _mean(found),
                f'{task.accuracy}_std': spread,
                'seeds': len(runs),
                'gmac_from': max(map(min, costs)),
                'gmac_to': min(map(max, costs)),
            }
        )
    return compared


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean, None if one of the values is not known."""
    return None if None in values else statistics.fmean(values)

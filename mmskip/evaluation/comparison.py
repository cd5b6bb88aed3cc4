"""Compare methods: rows over seeds, and accuracy at equal cost.

A row is a dict with ``method``, ``setting``, ``AP``, ``gmac_per_frame`` and
more figures; with ``seed`` where it is one of several runs.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Figures that are averaged; of the others all runs have the same.
FIGURES = ('AP', 'AP50', 'gmac_per_frame', 'reduction', 'ms_per_frame')
SPREADS = ('AP', 'gmac_per_frame')

Row = Mapping[str, Any]


def mean_over_seeds(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Average the rows of one method and setting.

    Args:
        rows: One per method, setting and seed.

    Returns:
        A row per method and setting, in the order of the first ones, with
        the means, ``AP_std`` and ``gmac_per_frame_std`` (of the sample,
        n - 1; None for a single run) and ``seeds``, their number.
    """
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault((row['method'], row['setting']), []).append(row)
    means = []
    for runs in groups.values():
        mean = {key: value for key, value in runs[0].items() if key != 'seed'}
        for key in FIGURES:
            mean[key] = _mean([run.get(key) for run in runs])
        for key in SPREADS:
            values = [run[key] for run in runs]
            spread = statistics.stdev(values) if len(values) > 1 else None
            mean[f'{key}_std'] = spread
        means.append(dict(mean, seeds=len(runs)))
    return means


def accuracy_at(rows: Sequence[Row], gmac: float) -> float | None:
    """AP of a method at a cost, between the two settings around it.

    Args:
        rows: Of one method (and seed), one per setting.
        gmac: GMAC per frame.

    Returns:
        Linear interpolation; None for a cost that lies outside of the
        settings' costs, as nothing is known there.
    """
    points = sorted((row['gmac_per_frame'], row['AP']) for row in rows)
    # Both are sums of fractions: equal up to rounding is reached.
    slack = 1e-9 * gmac
    if not points[0][0] - slack <= gmac <= points[-1][0] + slack:
        return None
    return float(np.interp(gmac, *zip(*points, strict=True)))


def compare_at(rows: Sequence[Row], gmac: float) -> list[dict[str, Any]]:
    """AP of every method at one cost.

    Interpolated for each seed by itself, then averaged.

    Args:
        rows: One per method, setting and seed.
        gmac: GMAC per frame.

    Returns:
        Per method ``AP``, ``AP_std``, ``seeds``, and the range of costs
        ``gmac_from`` to ``gmac_to`` that all its seeds reach; ``AP`` is None
        where ``gmac`` is out of that range.
    """
    compared = []
    for method in dict.fromkeys(row['method'] for row in rows):
        runs: dict[Any, list[Row]] = {}
        for row in rows:
            if row['method'] == method:
                runs.setdefault(row.get('seed'), []).append(row)
        found = [accuracy_at(run, gmac) for run in runs.values()]
        costs = [[r['gmac_per_frame'] for r in run] for run in runs.values()]
        spread = None
        if len(found) > 1 and None not in found:
            spread = statistics.stdev(found)
        compared.append(
            dict(
                method=method,
                gmac=gmac,
                AP=_mean(found),
                AP_std=spread,
                seeds=len(runs),
                gmac_from=max(map(min, costs)),
                gmac_to=min(map(max, costs)),
            )
        )
    return compared


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean, None if one of the values is not known."""
    return None if None in values else statistics.fmean(values)

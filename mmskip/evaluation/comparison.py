"""Tasks and their metrics, and the comparison of what they report.

A row is a dict with ``method``, ``setting`` and the figures of a
:class:`Task`; with ``seed`` where it is one of several runs.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Parts of what was spent, by mmskip.ComputeCost: gates, reference frames.
SHARES = dict(
    gate_share='cost/gate_share', reference_share='cost/reference_share'
)
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """The figures that rows of results have, and where they come from.

    Rows have ``method``, ``setting``, the keys of ``metrics``, the time and
    ``backend``.

    Attributes:
        accuracy: Key of the accuracy in a row.
        cost: Key of the cost, GMAC per unit: ``gmac_per_<unit>``.
        accuracy_label: Accuracy as an axis of a plot tells it.
        cost_label: The same of the cost.
        digits: After the decimal point of accuracies.
        metrics: Key of a row to the name of the metric that a test reports.
        extras: Keys of further accuracies and shares, for tables.
        needs: What has to be in ``test_evaluator``.
    """

    accuracy: str
    cost: str
    accuracy_label: str
    cost_label: str
    digits: int
    metrics: Mapping[str, str]
    extras: tuple[str, ...]
    needs: str

    @property
    def unit(self) -> str:
        """The unit of a cost: ``frame``, ``video`` or ``clip``."""
        return self.cost.removeprefix('gmac_per_')

    @property
    def dense(self) -> str:
        """Key of the cost of the model that computes everything."""
        return f'dense_{self.cost}'

    @property
    def time(self) -> str:
        """Key of the milliseconds per unit, None where nobody measured."""
        return f'ms_per_{self.unit}'

    @property
    def figures(self) -> tuple[str, ...]:
        """Keys of the figures that differ from seed to seed."""
        return (*self.metrics, self.time)


DETECTION = Task(
    accuracy='AP',
    cost='gmac_per_frame',
    accuracy_label='AP (IoU 0.5:0.95)',
    cost_label='GMAC per frame (whole model, reference frames included)',
    digits=3,
    metrics=dict(
        AP='coco/bbox_mAP',
        AP50='coco/bbox_mAP_50',
        gmac_per_frame='cost/gmac',
        dense_gmac_per_frame='cost/dense_gmac',
        reduction='cost/reduction',
        **SHARES,
    ),
    extras=('AP50',),
    needs='CocoMetric and mmskip.ComputeCost',
)
RECOGNITION = Task(
    accuracy='mAP',
    cost='gmac_per_video',
    accuracy_label='mAP (%)',
    cost_label='GMAC per video (policies included)',
    digits=1,
    metrics=dict(
        mAP='acc/mAP',
        top1='acc/top1',
        used='cost/used',
        gmac_per_video='cost/gmac_per_video',
        dense_gmac_per_video='cost/dense_gmac_per_video',
        reduction='cost/reduction',
    ),
    extras=('top1', 'used'),
    needs='mmskip.ActionAccuracy and mmskip.VideoCost',
)
CLIPS = Task(
    accuracy='clip_1',
    cost='gmac_per_clip',
    accuracy_label='clip-1 (%)',
    cost_label='GMAC per clip (gates and cheap maps included)',
    digits=1,
    metrics=dict(
        clip_1='acc/clip-1',
        video_1='acc/video-1',
        gmac_per_clip='cost/gmac_per_clip',
        max_gmac='cost/max_gmac',
        min_gmac='cost/min_gmac',
        dense_gmac_per_clip='cost/dense_gmac_per_clip',
        reduction='cost/reduction',
    ),
    extras=('video_1',),
    needs='mmskip.ClipAccuracy and mmskip.ClipCost',
)
POSE = Task(
    accuracy='PCK',
    cost='gmac_per_frame',
    accuracy_label='PCK at 0.2 of the box',
    cost_label='GMAC per frame (whole model, reference frames included)',
    digits=3,
    metrics=dict(
        PCK='PCK',
        tPCK='tPCK',
        gmac_per_frame='cost/gmac',
        dense_gmac_per_frame='cost/dense_gmac',
        reduction='cost/reduction',
        **SHARES,
    ),
    extras=('tPCK',),
    needs="JhmdbPCKAccuracy, by 'bbox' and 'torso', and mmskip.ComputeCost",
)
# Recognition from frames that are computed one by one (TSN).
FRAMES = Task(
    accuracy='top1',
    cost='gmac_per_frame',
    accuracy_label='top-1 (%)',
    cost_label='GMAC per frame (whole model, reference frames included)',
    digits=1,
    metrics=dict(
        top1='acc/top1',
        gmac_per_frame='cost/gmac',
        dense_gmac_per_frame='cost/dense_gmac',
        reduction='cost/reduction',
        **SHARES,
    ),
    extras=(),
    needs='mmskip.ActionAccuracy and mmskip.ComputeCost',
)
TASKS = dict(
    detection=DETECTION,
    pose=POSE,
    recognition=RECOGNITION,
    frames=FRAMES,
    clips=CLIPS,
)


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
    """Interpolate the accuracy of a method at a cost.

    Args:
        rows: Rows of one method (and seed), one per setting.
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
    """Return the accuracy of every method at one cost.

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
    """Return the mean, None if one of the values is not known."""
    return None if None in values else statistics.fmean(values)

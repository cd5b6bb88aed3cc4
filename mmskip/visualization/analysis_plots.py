"""Plots of what happens inside a model, and over its options."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from mmskip.evaluation import DETECTION, Task
from mmskip.visualization.figures import STYLES, new_figure, save_figure


def plot_bars(
    bars: Mapping[str, Mapping[str, float]],
    path: str | PathLike,
    ylabel: str,
) -> Path:
    """Plot shares as bars, a group per stage, a colour per series.

    Args:
        bars: Of each series, the share of each stage in [0, 1].
        path: The picture.
        ylabel: What the shares are of.

    Returns:
        The path.
    """
    stages = list(dict.fromkeys(s for series in bars.values() for s in series))
    width = 0.8 / len(bars)
    size = max(6.4, 1.5 + 0.3 * len(stages) * max(1, len(bars) / 2))
    figure, axes = new_figure(size=(size, 4.2))
    for index, (label, series) in enumerate(bars.items()):
        shift = (index - (len(bars) - 1) / 2) * width
        found = [(i, series[s]) for i, s in enumerate(stages) if s in series]
        axes.bar(
            [i + shift for i, _ in found],
            [share for _, share in found],
            width=0.95 * width,
            color=STYLES[index % len(STYLES)][0],
            label=label,
        )
    axes.set_xticks(
        range(len(stages)),
        stages,
        rotation=40,
        ha='right',
        rotation_mode='anchor',
        fontsize=8,
    )
    axes.grid(axis='x', visible=False)
    axes.set_ylim(0, 1)
    axes.set_ylabel(ylabel)
    if len(bars) > 1:
        axes.legend(frameon=False, fontsize=9)
    return save_figure(figure, path)


def plot_expected_vs_measured(
    rows: Sequence[Mapping[str, Any]], path: str | PathLike
) -> Path:
    """Plot the share that was expected against the one that was measured.

    Args:
        rows: Per layer ``part`` (of the model, gives the colour),
            ``expected`` and ``measured`` in [0, 1] and ``gmac_per_frame``,
            its dense MACs, which give the size of the point.
        path: The picture.

    Returns:
        The path.
    """
    figure, axes = new_figure(size=(5.4, 5.4))
    axes.plot((0, 1), (0, 1), color='0.5', linestyle='--', lw=1, zorder=1)
    largest = max(row['gmac_per_frame'] for row in rows)
    parts = list(dict.fromkeys(row['part'] for row in rows))
    for index, part in enumerate(parts):
        layers = [row for row in rows if row['part'] == part]
        color, marker = STYLES[index % len(STYLES)]
        axes.scatter(
            [row['expected'] for row in layers],
            [row['measured'] for row in layers],
            s=[8 + 90 * r['gmac_per_frame'] / largest for r in layers],
            color=color,
            marker=marker,
            alpha=0.6,
            linewidths=0,
            label=part,
            zorder=2,
        )
    limits = (-0.03, 1.03)
    axes.set(xlim=limits, ylim=limits, aspect='equal')
    axes.set_xlabel('expected share (mean of the sigmoid)')
    axes.set_ylabel('computed share (rounded decisions)')
    legend = axes.legend(frameon=False, fontsize=9, loc='upper left')
    for handle in legend.legend_handles:
        handle.set_sizes([40])
    axes.text(
        0.98,
        0.02,
        'area: MACs of the layer',
        transform=axes.transAxes,
        ha='right',
        fontsize=8,
        color='0.4',
    )
    return save_figure(figure, path)


def plot_intervals(
    rows: Sequence[Mapping[str, Any]],
    path: str | PathLike,
    task: Task = DETECTION,
) -> Path:
    """Plot accuracy and cost by reset interval, a line per model.

    Args:
        rows: Rows of results with ``interval``, None for a reference frame
            at the beginning of a video only.
        path: The picture.
        task: What accuracy and cost are.

    Returns:
        The path.
    """
    figure, (top, bottom) = new_figure(rows=2, size=(6.4, 5.4))
    intervals = sorted(
        {row['interval'] for row in rows}, key=lambda i: (i is None, i)
    )
    for index, method in enumerate(dict.fromkeys(r['method'] for r in rows)):
        found = {r['interval']: r for r in rows if r['method'] == method}
        color, marker = STYLES[index % len(STYLES)]
        places = [n for n, i in enumerate(intervals) if i in found]
        chosen = [found[i] for i in intervals if i in found]
        for axes, key in ((top, task.accuracy), (bottom, task.cost)):
            axes.plot(
                places,
                [row[key] for row in chosen],
                color=color,
                marker=marker,
                label=method,
            )
    dense = {row[task.dense] for row in rows}
    for gmac in dense:
        bottom.axhline(gmac, color='#444444', linestyle='--', lw=1)
    bottom.annotate(
        'dense',
        (0.01, max(dense)),
        xycoords=('axes fraction', 'data'),
        xytext=(0, -11),
        textcoords='offset points',
        fontsize=8,
        color='#444444',
    )
    top.set_ylabel(task.accuracy_label)
    bottom.set_ylabel(f'GMAC per {task.unit}')
    bottom.set_ylim(bottom=0)
    bottom.set_xlabel('frames from one reference frame to the next')
    bottom.set_xticks(
        np.arange(len(intervals)),
        ['whole video' if i is None else str(i) for i in intervals],
    )
    if len({row['method'] for row in rows}) > 1:
        top.legend(frameon=False, fontsize=9)
    return save_figure(figure, path)

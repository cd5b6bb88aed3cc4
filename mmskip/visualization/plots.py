"""Accuracy against cost."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from mmskip.evaluation import DETECTION, Task
from mmskip.visualization.figures import STYLES, new_figure, save_figure
from mmskip.visualization.rows import Row, check_rows, method_label

DENSE_COLOR = '#444444'
DENSE = ('dense', 'plain', 'tsn')
MOST_NOTES = 12
MOST_INSIDE = 8


def plot_accuracy_vs_macs(
    rows: Sequence[Row],
    path: str | PathLike,
    title: str | None = None,
    task: Task = DETECTION,
) -> Path:
    """Plot accuracy against GMAC, a line per method.

    Rows of one method (several thresholds or intervals) are joined; the
    dense model (``dense`` or ``tsn``) is a star with a horizontal guide. While
    there are few, each point says how many times fewer MACs than dense it
    takes. Rows with spreads get error bars. Where methods outnumber colours,
    the further ones are dotted; the legend of many is beside the plot.

    Args:
        rows: See :mod:`mmskip.visualization.rows`.
        path: The picture; its suffix (``.png``, ``.pdf``, ``.svg``) chooses
            the format.
        title: Over the plot.
        task: What accuracy and cost are.

    Returns:
        The path.

    Raises:
        ValueError: No rows, or a key is missing.
    """
    check_rows(rows, task)
    many = len({row['method'] for row in rows}) > MOST_INSIDE
    figure, axes = new_figure(size=(9.6, 4.8) if many else (6.4, 4.2))
    _draw_dense(axes, [r for r in rows if r['method'] in DENSE], task)
    methods = dict.fromkeys(
        row['method'] for row in rows if row['method'] not in DENSE
    )
    for index, method in enumerate(methods):
        points = [row for row in rows if row['method'] == method]
        color, marker = STYLES[index % len(STYLES)]
        look = dict(color=color, marker=marker)
        if index >= len(STYLES):
            look |= dict(linestyle=':', markerfacecolor='white')
        notes = len(rows) <= MOST_NOTES
        _draw_method(axes, method, points, look, notes, task)
    axes.set_xlabel(task.cost_label)
    axes.set_ylabel(task.accuracy_label)
    axes.set_xlim(left=0)
    axes.margins(x=0.08, y=0.15)
    if many:
        place = dict(loc='center left', bbox_to_anchor=(1, 0.5))
    else:
        place = dict(loc='best')
    axes.legend(frameon=False, fontsize=9, **place)
    if title is not None:
        axes.set_title(title, fontsize=11)
    return save_figure(figure, path)


def _draw_dense(axes: Axes, rows: Sequence[Row], task: Task) -> None:
    if len(rows) == 1:
        accuracy = rows[0][task.accuracy]
        axes.axhline(accuracy, color=DENSE_COLOR, linestyle='--', lw=1)
    if rows:
        _draw_line(
            axes,
            rows,
            task,
            color=DENSE_COLOR,
            marker='*',
            markersize=13,
            linestyle='--',
            lw=1,
            label=method_label(rows[0]['method']),
            zorder=3,
        )


def _draw_method(
    axes: Axes,
    method: str,
    rows: Sequence[Row],
    look: dict[str, str],
    notes: bool,
    task: Task,
) -> None:
    _draw_line(axes, rows, task, **look, label=method_label(method), zorder=2)
    for row in rows if notes else ():
        axes.annotate(
            f'{row["reduction"]:.1f}×',
            (row[task.cost], row[task.accuracy]),
            xytext=(5, -11),
            textcoords='offset points',
            fontsize=8,
            color=look['color'],
        )


def _draw_line(
    axes: Axes, rows: Sequence[Row], task: Task, **style: Any
) -> None:
    """Join rows in the order of their cost, with bars where they spread."""
    rows = sorted(rows, key=lambda row: row[task.cost])
    gmac = [row[task.cost] for row in rows]
    accuracy = [row[task.accuracy] for row in rows]
    axes.plot(gmac, accuracy, **style)
    axes.errorbar(
        gmac,
        accuracy,
        xerr=[row.get(f'{task.cost}_std') or 0 for row in rows],
        yerr=[row.get(f'{task.accuracy}_std') or 0 for row in rows],
        fmt='none',
        ecolor=style['color'],
        elinewidth=1,
        capsize=2,
        zorder=style['zorder'],
    )

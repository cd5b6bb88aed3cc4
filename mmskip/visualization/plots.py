"""Plots of accuracy, cost and redundancy."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmskip.evaluation import DETECTION, Task

from .table import Row, check_rows, method_label

# Okabe and Ito's colour-blind safe palette and two more; shapes differ too.
STYLES = (
    ('#0072B2', 'o'),
    ('#D55E00', 's'),
    ('#009E73', '^'),
    ('#CC79A7', 'D'),
    ('#E69F00', 'v'),
    ('#56B4E9', 'P'),
    ('#8C564B', 'X'),
    ('#666666', 'p'),
)
DENSE_COLOR = '#444444'
DENSE = ('dense', 'plain', 'tsn')
MOST_NOTES = 12
MOST_INSIDE = 8
LABELS = dict(
    cc='correlation coefficient',
    rmse='RMSE',
    rp='redundancy proportion',
)


def new_figure(
    rows: int = 1, size: tuple[float, float] = (6.4, 4.2)
) -> tuple[Figure, Any]:
    """Make a figure.

    Args:
        rows: Number of plots, one below the other, of one x axis.
        size: Width and height in inches, at 150 dots each.

    Returns:
        The figure and its axes; an array of them for several rows.
    """
    # No pyplot: no window system, and no figure stays behind.
    figure = Figure(figsize=size, dpi=150, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, sharex=True, squeeze=False)[:, 0]
    for plot in axes:
        plot.grid(color='0.9', linewidth=0.8)
        plot.set_axisbelow(True)
        plot.spines[['top', 'right']].set_visible(False)
    return figure, axes[0] if rows == 1 else axes


def save_figure(figure: Figure, path: str | PathLike) -> Path:
    """Write a figure; the suffix (.png, .pdf, .svg) chooses the format."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def without_prefix(names: Sequence[str]) -> list[str]:
    """Shorten names of layers by the parts that all of them begin with."""
    parts = [name.split('.') for name in names]
    least = min(map(len, parts)) - 1
    shared = 0
    while shared < least and len({part[shared] for part in parts}) == 1:
        shared += 1
    return ['.'.join(part[shared:]) for part in parts]


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
        rows: See :mod:`mmskip.visualization.table`.
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


def plot_bars(
    bars: Mapping[str, Mapping[str, float]],
    path: str | PathLike,
    ylabel: str,
) -> Path:
    """Plot shares as bars, a group per stage, a colour per series.

    Args:
        bars: By series, the share of each stage in [0, 1].
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


def plot_error_vs_macs(
    rows: Sequence[Mapping[str, Any]],
    path: str | PathLike,
    ylabel: str = 'relative error of the outputs',
) -> Path:
    """Plot curves of error against the share of MACs.

    Args:
        rows: With ``method`` (a line each), ``share`` (of the dense MACs)
            and ``error``; those with a true ``chosen`` are marked.
        path: The picture.
        ylabel: What the error is.

    Returns:
        The path.

    Raises:
        ValueError: No rows.
    """
    if not rows:
        raise ValueError('expected at least one row, got none')
    figure, axes = new_figure()
    for index, method in enumerate(dict.fromkeys(r['method'] for r in rows)):
        found = sorted(
            (row for row in rows if row['method'] == method),
            key=lambda row: row['share'],
        )
        color, marker = STYLES[index % len(STYLES)]
        axes.plot(
            [row['share'] for row in found],
            [row['error'] for row in found],
            color=color,
            marker=marker,
            markersize=4,
            label=method,
        )
        chosen = [row for row in found if row.get('chosen')]
        axes.scatter(
            [row['share'] for row in chosen],
            [row['error'] for row in chosen],
            s=110,
            facecolors='none',
            edgecolors=color,
            zorder=3,
        )
    axes.set_xlabel("share of the dense model's MACs")
    axes.set_ylabel(ylabel)
    axes.set_yscale('symlog', linthresh=1e-3)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.legend(frameon=False, fontsize=9)
    return save_figure(figure, path)


def plot_redundancy(
    rows: Sequence[Mapping[str, Any]], path: str | PathLike
) -> Path:
    """Plot the figures of every layer, a line for time and one for channels.

    Args:
        rows: From ``mmskip.evaluation.redundancy.RedundancyMeter.rows``;
            shaded is the range over the samples, dashed the mean over
            layers.
        path: The picture; its suffix chooses the format.

    Returns:
        The path.
    """
    layers = list(
        dict.fromkeys(row['layer'] for row in rows if row['layer'] != 'mean')
    )
    width = max(6.4, 1.5 + 0.22 * len(layers))
    figure, plots = new_figure(rows=len(LABELS), size=(width, 7.5))
    for index, axis in enumerate(dict.fromkeys(row['axis'] for row in rows)):
        color, marker = STYLES[index]
        found = {row['layer']: row for row in rows if row['axis'] == axis}
        places = [n for n, name in enumerate(layers) if name in found]
        chosen = [found[name] for name in layers if name in found]
        for plot, key in zip(plots, LABELS, strict=True):
            plot.plot(
                places,
                [row[key] for row in chosen],
                color=color,
                marker=marker,
                markersize=4,
                label=axis,
            )
            plot.fill_between(
                places,
                [row[f'{key}_min'] for row in chosen],
                [row[f'{key}_max'] for row in chosen],
                color=color,
                alpha=0.15,
                linewidth=0,
            )
            mean = found['mean'][key]
            plot.axhline(mean, color=color, linestyle='--', linewidth=1)
    for plot, label in zip(plots, LABELS.values(), strict=True):
        plot.set_ylabel(label)
        plot.set_ylim(bottom=min(0, plot.get_ylim()[0]))
    plots[0].legend(frameon=False, fontsize=9)
    plots[-1].set_xticks(
        range(len(layers)), without_prefix(layers), rotation=90, fontsize=7
    )
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

"""Accuracy against cost."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from mmskip.visualization.figures import STYLES, new_figure, save_figure
from mmskip.visualization.rows import Row, check_rows, method_label

DENSE_COLOR = '#444444'
DENSE = 'dense'
MOST_NOTES = 12


def plot_accuracy_vs_macs(
    rows: Sequence[Row],
    path: str | PathLike,
    title: str | None = None,
) -> Path:
    """Plot AP against GMAC per frame, a line per method.

    Rows of one method (several thresholds or intervals) are joined; the
    dense model is a star with a horizontal guide. While there are few, each
    point says how many times fewer MACs than dense it takes. Rows with
    ``AP_std`` and ``gmac_per_frame_std`` get error bars.

    Args:
        rows: See :mod:`mmskip.visualization.rows`.
        path: The picture; its suffix (``.png``, ``.pdf``, ``.svg``) chooses
            the format.
        title: Over the plot.

    Returns:
        The path.

    Raises:
        ValueError: No rows, or a key is missing.
    """
    check_rows(rows)
    figure, axes = new_figure()
    _draw_dense(axes, [row for row in rows if row['method'] == DENSE])
    methods = dict.fromkeys(
        row['method'] for row in rows if row['method'] != DENSE
    )
    for index, method in enumerate(methods):
        points = [row for row in rows if row['method'] == method]
        style = STYLES[index % len(STYLES)]
        _draw_method(axes, method, points, style, len(rows) <= MOST_NOTES)
    axes.set_xlabel('GMAC per frame (whole model, reference frames included)')
    axes.set_ylabel('AP (IoU 0.5:0.95)')
    axes.set_xlim(left=0)
    axes.margins(x=0.08, y=0.15)
    axes.legend(frameon=False, loc='best', fontsize=9)
    if title is not None:
        axes.set_title(title, fontsize=11)
    return save_figure(figure, path)


def _draw_dense(axes: Axes, rows: Sequence[Row]) -> None:
    if len(rows) == 1:
        axes.axhline(rows[0]['AP'], color=DENSE_COLOR, linestyle='--', lw=1)
    if rows:
        _draw_line(
            axes,
            rows,
            color=DENSE_COLOR,
            marker='*',
            markersize=13,
            linestyle='--',
            lw=1,
            label=method_label(DENSE),
            zorder=3,
        )


def _draw_method(
    axes: Axes,
    method: str,
    rows: Sequence[Row],
    style: tuple[str, str],
    notes: bool,
) -> None:
    color, marker = style
    label = method_label(method)
    _draw_line(axes, rows, color=color, marker=marker, label=label, zorder=2)
    for row in rows if notes else ():
        axes.annotate(
            f'{row["reduction"]:.1f}×',
            (row['gmac_per_frame'], row['AP']),
            xytext=(5, -11),
            textcoords='offset points',
            fontsize=8,
            color=color,
        )


def _draw_line(axes: Axes, rows: Sequence[Row], **style: Any) -> None:
    """Join rows in the order of their cost, with bars where they spread."""
    rows = sorted(rows, key=lambda row: row['gmac_per_frame'])
    gmac = [row['gmac_per_frame'] for row in rows]
    accuracy = [row['AP'] for row in rows]
    axes.plot(gmac, accuracy, **style)
    axes.errorbar(
        gmac,
        accuracy,
        xerr=[row.get('gmac_per_frame_std') or 0 for row in rows],
        yerr=[row.get('AP_std') or 0 for row in rows],
        fmt='none',
        ecolor=style['color'],
        elinewidth=1,
        capsize=2,
        zorder=style['zorder'],
    )

"""Accuracy against cost."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmskip.visualization.rows import Row, check_rows, method_label

# Okabe and Ito's colour-blind safe palette; shapes differ as well.
STYLES = (
    ('#0072B2', 'o'),
    ('#D55E00', 's'),
    ('#009E73', '^'),
    ('#CC79A7', 'D'),
    ('#E69F00', 'v'),
    ('#56B4E9', 'P'),
)
DENSE_COLOR = '#444444'
DENSE = 'dense'


def plot_accuracy_vs_macs(
    rows: Sequence[Row],
    path: str | PathLike,
    title: str | None = None,
) -> Path:
    """Plot AP against GMAC per frame, a line per method.

    Rows of one method (several thresholds or intervals) are joined; the
    dense model is a point with a horizontal guide. Each point says how many
    times fewer MACs than dense it takes.

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
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # No pyplot: no window system, and no figure stays behind.
    figure = Figure(figsize=(6.4, 4.2), dpi=150, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw_dense(axes, [row for row in rows if row['method'] == DENSE])
    methods = dict.fromkeys(
        row['method'] for row in rows if row['method'] != DENSE
    )
    for index, method in enumerate(methods):
        points = [row for row in rows if row['method'] == method]
        _draw_method(axes, method, points, STYLES[index % len(STYLES)])
    axes.set_xlabel('GMAC per frame (whole model, reference frames included)')
    axes.set_ylabel('AP (IoU 0.5:0.95)')
    axes.set_xlim(left=0)
    axes.margins(x=0.08, y=0.15)
    axes.grid(color='0.9', linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(frameon=False, loc='best', fontsize=9)
    if title is not None:
        axes.set_title(title, fontsize=11)
    figure.savefig(path)
    return path


def _draw_dense(axes: Axes, rows: Sequence[Row]) -> None:
    for row in rows:
        axes.axhline(row['AP'], color=DENSE_COLOR, linestyle='--', lw=1)
    if rows:
        axes.plot(
            [row['gmac_per_frame'] for row in rows],
            [row['AP'] for row in rows],
            color=DENSE_COLOR,
            marker='*',
            markersize=13,
            linestyle='none',
            label=method_label(DENSE),
            zorder=3,
        )


def _draw_method(
    axes: Axes, method: str, rows: Sequence[Row], style: tuple[str, str]
) -> None:
    color, marker = style
    rows = sorted(rows, key=lambda row: row['gmac_per_frame'])
    axes.plot(
        [row['gmac_per_frame'] for row in rows],
        [row['AP'] for row in rows],
        color=color,
        marker=marker,
        label=method_label(method),
        zorder=2,
    )
    for row in rows:
        axes.annotate(
            f'{row["reduction"]:.1f}×',
            (row['gmac_per_frame'], row['AP']),
            xytext=(5, -11),
            textcoords='offset points',
            fontsize=8,
            color=color,
        )

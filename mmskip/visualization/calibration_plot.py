"""Error against MACs, with one threshold and with one per layer."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from mmskip.visualization.figures import STYLES, new_figure, save_figure


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

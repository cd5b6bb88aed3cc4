"""What all plots have in common."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

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
    """Names of layers without the parts that all of them begin with."""
    parts = [name.split('.') for name in names]
    least = min(map(len, parts)) - 1
    shared = 0
    while shared < least and len({part[shared] for part in parts}) == 1:
        shared += 1
    return ['.'.join(part[shared:]) for part in parts]

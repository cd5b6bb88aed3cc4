"""How much alike feature maps are, layer by layer (Table B.1, VA-RED^2)."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from .figures import STYLES, new_figure, save_figure, without_prefix

LABELS = dict(
    cc='correlation coefficient',
    rmse='RMSE',
    rp='redundancy proportion',
)


def plot_redundancy(
    rows: Sequence[Mapping[str, Any]], path: str | PathLike
) -> Path:
    """Plot the figures of every layer, a line for time and one for channels.

    Args:
        rows: Of ``mmskip.evaluation.redundancy.RedundancyMeter.rows``;
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

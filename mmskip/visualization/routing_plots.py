"""Plots of what dynamic convolutions chose (VA-RED^2)."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .overlay import write_text
from .plots import STYLES, new_figure, save_figure, without_prefix

GAP, MARGIN, CAPTION = 3, 6, 18
AXES = ('time', 'channels')
# Pixels; smaller frames are enlarged.
THUMBNAIL = 72


def plot_shares(
    rows: Sequence[Mapping[str, Any]], path: str | PathLike
) -> Path:
    """Plot the computed features of each class in each layer (Fig. B-4).

    Args:
        rows: With ``name`` of the class, ``layer``, ``time`` and
            ``channels``.
        path: The picture; its suffix chooses the format.

    Returns:
        The path.
    """
    layers = list(dict.fromkeys(row['layer'] for row in rows))
    names = list(dict.fromkeys(row['name'] for row in rows))
    size = (
        max(6.4, 2.5 + 0.32 * len(layers)),
        2.8 + 2 * min(max(0.22 * len(names), 1.2), 6.0),
    )
    figure = Figure(figsize=size, dpi=150, layout='constrained')
    FigureCanvasAgg(figure)
    plots = figure.subplots(2, sharex=True)
    for plot, axis in zip(plots, AXES, strict=True):
        table = np.full((len(names), len(layers)), np.nan)
        for row in rows:
            place = names.index(row['name']), layers.index(row['layer'])
            table[place] = row[axis]
        image = plot.imshow(table, cmap='Blues', vmin=0, vmax=1, aspect='auto')
        plot.set_title(f'{axis}: share of features computed', fontsize=9)
        if len(names) <= 40:
            plot.set_yticks(range(len(names)), names, fontsize=7)
        else:
            plot.set_ylabel(f'{len(names)} classes')
        figure.colorbar(image, ax=plot)
    plots[-1].set_xticks(
        range(len(layers)), without_prefix(layers), rotation=90, fontsize=7
    )
    return save_figure(figure, path)


def plot_cost_distribution(
    groups: Mapping[str, Sequence[Mapping[str, Any]]], path: str | PathLike
) -> Path:
    """Plot how clips differ in cost, as bars where Fig. B-6 has pies.

    Args:
        groups: By name, rows with ``gmac_from``, ``gmac_to`` and ``share``.
        path: The picture; its suffix chooses the format.

    Returns:
        The path.
    """
    figure, plots = new_figure(
        rows=len(groups), size=(6.4, 1.4 + 1.8 * len(groups))
    )
    for index, (plot, (name, rows)) in enumerate(
        zip(np.atleast_1d(plots), groups.items(), strict=True)
    ):
        middles = [(row['gmac_from'] + row['gmac_to']) / 2 for row in rows]
        widths = [row['gmac_to'] - row['gmac_from'] for row in rows]
        if not any(widths):  # all clips cost the same
            widths = [0.01 * middle for middle in middles]
        bars = plot.bar(
            middles,
            [100 * row['share'] for row in rows],
            width=widths,
            color=STYLES[index % len(STYLES)][0],
            edgecolor='white',
        )
        texts = [f'{100 * row["share"]:.1f}' for row in rows]
        plot.bar_label(
            bars,
            [text if text != '0.0' else '' for text in texts],
            fontsize=7,
        )
        plot.margins(y=0.15)
        plot.set_ylabel('clips (%)')
        plot.set_title(name, fontsize=9)
    plot.set_xlabel('GMAC per clip (whole model, gates included)')
    return save_figure(figure, path)


def draw_clip(frames: np.ndarray, caption: str) -> np.ndarray:
    """Draw the frames of a clip side by side, below a caption.

    Args:
        frames: uint8, (T, H, W, 3) in blue, green, red.
        caption: What stands above them.

    Returns:
        Image, uint8, (H', W', 3).
    """
    height = max(frames.shape[1], THUMBNAIL)
    width = round(frames.shape[2] * height / frames.shape[1])
    step = width + GAP
    shape = (CAPTION + height + MARGIN, 2 * MARGIN + len(frames) * step, 3)
    canvas = np.full(shape, 255, np.uint8)
    write_text(canvas, caption, (MARGIN, 13), 0.4)
    for index, frame in enumerate(frames):
        x = MARGIN + index * step
        canvas[CAPTION : CAPTION + height, x : x + width] = cv2.resize(
            frame, (width, height), interpolation=cv2.INTER_AREA
        )
    return canvas

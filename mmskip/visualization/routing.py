"""Pictures of what dynamic convolutions chose (VA-RED^2).

Plots of shares and costs; frames of a clip; and feature maps in two grids
side by side (B-2, B-3): all features computed, and what a dynamic convolution
gave for the same input, the rebuilt ones outlined in red. In a grid a row is
a channel, a column a frame.
"""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .overlay import write_text
from .plots import STYLES, new_figure, save_figure, without_prefix

CLIP_GAP, CLIP_MARGIN, CLIP_CAPTION = 3, 6, 18
AXES = ('time', 'channels')
# Pixels; smaller frames are enlarged.
THUMBNAIL = 72
RED = (40, 40, 220)
WHITE = (255, 255, 255)
TEXT = 0.38
BORDER, GAP, MARGIN, CAPTION, LABEL = 2, 2, 10, 22, 34


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
    step = width + CLIP_GAP
    bottom = CLIP_CAPTION + height
    shape = (bottom + CLIP_MARGIN, 2 * CLIP_MARGIN + len(frames) * step, 3)
    canvas = np.full(shape, 255, np.uint8)
    write_text(canvas, caption, (CLIP_MARGIN, 13), 0.4)
    for index, frame in enumerate(frames):
        x = CLIP_MARGIN + index * step
        canvas[CLIP_CAPTION:bottom, x : x + width] = cv2.resize(
            frame, (width, height), interpolation=cv2.INTER_AREA
        )
    return canvas


def choose_rows(count: int, most: int) -> list[int]:
    """Return at most so many indices of ``count``, evenly spaced."""
    return sorted(set(np.linspace(0, count - 1, most).round().astype(int)))


def draw_map_grids(
    full: np.ndarray,
    mixed: np.ndarray,
    channels: np.ndarray,
    frames: np.ndarray,
    most: int = 8,
    side: int = 48,
) -> np.ndarray:
    """Draw both grids.

    The values of a channel have the same colours in all its maps.

    Args:
        full: (C, T, H, W), all computed.
        mixed: (C, T, H, W), as it was.
        channels: (C,) bool, which were computed.
        frames: (T,) bool, which were computed.
        most: Rows and columns of a grid at most.
        side: Height of a map in pixels.

    Returns:
        Image, uint8, (H', W', 3) in blue, green, red.
    """
    rows = choose_rows(full.shape[0], most)
    columns = list(range(min(full.shape[1], most)))
    grids = []
    nothing = np.ones(len(channels), bool), np.ones(len(frames), bool)
    parts = ((full, *nothing), (mixed, channels, frames))
    for maps, known_channels, known_frames in parts:
        lines = []
        for row in rows:
            low = min(full[row].min(), mixed[row].min())
            high = max(full[row].max(), mixed[row].max())
            lines.append(
                np.hstack(
                    [
                        _tile(
                            (maps[row, t] - low) / max(high - low, 1e-12),
                            known_channels[row] and known_frames[t],
                            side,
                        )
                        for t in columns
                    ]
                )
            )
        grids.append(np.vstack(lines))
    return _arrange(grids, rows)


def _tile(values: np.ndarray, computed: bool, side: int) -> np.ndarray:
    """Draw one map in colours, in a frame."""
    width = max(1, round(side * values.shape[1] / values.shape[0]))
    colours = colormaps['viridis'](values)[..., 2::-1]
    image = cv2.resize(
        (255 * colours).astype(np.uint8),
        (width, side),
        interpolation=cv2.INTER_NEAREST,
    )
    for thick, colour in ((BORDER, WHITE if computed else RED), (GAP, WHITE)):
        image = cv2.copyMakeBorder(
            image, *(thick,) * 4, cv2.BORDER_CONSTANT, value=colour
        )
    return image


def _arrange(grids: list[np.ndarray], rows: list[int]) -> np.ndarray:
    """Draw two grids with captions and the numbers of the channels."""
    height, width = grids[0].shape[:2]
    canvas = np.full(
        (CAPTION + height + MARGIN, LABEL + 2 * width + 3 * MARGIN, 3),
        255,
        np.uint8,
    )
    captions = ('all computed', 'dynamic (red: rebuilt)')
    for index, (grid, text) in enumerate(zip(grids, captions, strict=True)):
        x = LABEL + MARGIN + index * (width + MARGIN)
        canvas[CAPTION : CAPTION + height, x : x + width] = grid
        write_text(canvas, text, (x, 15), TEXT)
    step = height // len(rows)
    for index, row in enumerate(rows):
        place = (6, CAPTION + index * step + step // 2 + 4)
        write_text(canvas, f'c{row}', place, TEXT)
    return canvas

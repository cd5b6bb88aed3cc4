"""Feature maps, the rebuilt ones outlined in red (VA-RED^2, B-2 and B-3).

Two grids side by side: all features computed, and what a dynamic convolution
gave for the same input. A row is a channel, a column a frame.
"""

import cv2
import numpy as np
from matplotlib import colormaps

from .overlay import write_text

RED = (40, 40, 220)
WHITE = (255, 255, 255)
TEXT = 0.38
BORDER, GAP, MARGIN, CAPTION, LABEL = 2, 2, 10, 22, 34


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

"""Where frames stop, as a bar (Fig. 4.1 of the thesis on SoF-Net)."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmskip.runtime import InputError
from mmskip.runtime.reading import excerpt, read_json

USED_COLOR = '#0072B2'
UNSEEN_COLOR = '#222222'
EXPECTED = 'the JSON file of mmskip.VideoCost'
# Fields of a video that are lists, and what they are lists of.
LISTS = dict(stops=int, labels=int, frame_inds=int, scores=(int, float))
# Parts of a bar that are narrower get no percentage, in percent.
LEAST_LABELLED = 2.5


def read_videos(path: str | PathLike) -> dict:
    """Read what ``mmskip.VideoCost(out_file=...)`` wrote.

    Returns:
        ``videos``, ``num_places``, ``classes`` and ``figures``.

    Raises:
        InputError: The file is something else.
    """
    report = read_json(path, EXPECTED, finite=False)
    videos = report.get('videos') if isinstance(report, dict) else None
    places = report.get('num_places') if videos else None
    if (
        not isinstance(videos, list)
        or not videos
        or type(places) not in (int, type(None))
        or not isinstance(report.get('classes', []), list)
    ):
        raise InputError(
            f'{path}: expected {EXPECTED} with its videos, got another; test '
            'with '
            "dict(type='mmskip.VideoCost', out_file=...)"
        )
    for number, video in enumerate(videos, 1):
        if not _is_video(video, places or 0):
            raise InputError(
                f'{path}: video {number}: expected stops -1..{places or 0} '
                f'and other fields as mmskip.VideoCost writes them, got '
                f'{excerpt(video)}; test again'
            )
    return report


def count_stops(videos: Sequence[Mapping], places: int) -> dict[str, float]:
    """Percent of the frames of each fate, in the order of Fig. 4.1.

    Args:
        videos: See :func:`read_videos`.
        places: Number of places at which frames may stop.

    Returns:
        ``res1``, ``res2``, ..., ``early term.`` and ``used``.
    """
    stops = np.concatenate([video['stops'] for video in videos])
    fates = {f'res{n + 1}': n for n in range(places)}
    fates |= {'early term.': -1, 'used': places}
    return {
        name: 100 * float((stops == value).mean())
        for name, value in fates.items()
    }


def forwarded_shares(
    videos: Sequence[Mapping], inside: Sequence[Sequence[bool]], places: int
) -> tuple[float, float]:
    """Percent of the frames that were forwarded to the end.

    Args:
        videos: See :func:`read_videos`.
        inside: For each video, which of its frames lie in an annotated
            interval.
        places: Number of places at which frames may stop.

    Returns:
        Of the frames inside and outside of the intervals; NaN where there
        are none.
    """
    used = np.concatenate([video['stops'] for video in videos]) == places
    chosen = np.concatenate([np.asarray(row, bool) for row in inside])
    return tuple(
        100 * float(used[part].mean()) if part.any() else float('nan')
        for part in (chosen, ~chosen)
    )


def plot_frame_usage(
    shares: Mapping[str, Mapping[str, float]], path: str | PathLike
) -> Path:
    """Plot a bar of frame fates per model.

    Args:
        shares: By the name of a model, see :func:`count_stops`.
        path: The picture; its suffix chooses the format.

    Returns:
        The path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure(
        figsize=(8, 1.4 + 0.6 * len(shares)), dpi=150, layout='constrained'
    )
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    fates = list(dict.fromkeys(f for row in shares.values() for f in row))
    colours = _colours(fates)
    left = np.zeros(len(shares))
    for fate in fates:
        widths = np.array([row.get(fate, 0.0) for row in shares.values()])
        axes.barh(
            list(shares),
            widths,
            left=left,
            color=colours[fate],
            label=fate,
            edgecolor='white',
        )
        for row, width in enumerate(widths):
            if width >= LEAST_LABELLED:
                dark = fate in ('used', 'early term.')
                axes.text(
                    left[row] + width / 2,
                    row,
                    f'{width:.1f}',
                    ha='center',
                    va='center',
                    fontsize=8,
                    color='white' if dark else '0.25',
                )
        left += widths
    axes.set_xlim(0, 100)
    axes.set_xlabel('frames (%)')
    axes.invert_yaxis()
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(
        frameon=False,
        loc='lower center',
        bbox_to_anchor=(0.5, 1.0),
        ncols=len(fates),
        fontsize=8,
        handlelength=1.0,
        columnspacing=1.2,
    )
    figure.savefig(path)
    return path


def _is_video(video: Any, places: int) -> bool:
    """Whether an entry has stops, and other fields as they should be."""
    return (
        isinstance(video, Mapping)
        and bool(video.get('stops'))
        and isinstance(video.get('video', ''), str)
        and all(
            isinstance(video.get(name, []), list)
            and all(
                isinstance(value, kind) and not isinstance(value, bool)
                for value in video.get(name, [])
            )
            for name, kind in LISTS.items()
        )
        and all(-1 <= stop <= places for stop in video['stops'])
        and all(frame >= 0 for frame in video.get('frame_inds', []))
    )


def _colours(fates: Sequence[str]) -> dict[str, object]:
    """Shades for the places, deeper ones darker."""
    places = [fate for fate in fates if fate.startswith('res')]
    shades = np.linspace(0.15, 0.6, max(len(places), 1))
    colours = dict(zip(places, colormaps['Oranges'](shades), strict=False))
    return {**colours, 'early term.': UNSEEN_COLOR, 'used': USED_COLOR}

"""The fate of each frame of a video (SoF-Net, Figs. 4.1 and 4.2).

A strip of a video has two rows. The upper row shows the frames sampled. In the
lower one, frames forwarded to the end are shown again, ``res#`` is where the
others stopped, and ``exit`` means that a frame was not looked at. A bar shows
when the annotated action happens.
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

from mmskip.evaluation.compute_cost import UNSEEN
from mmskip.reading import InputError, excerpt, read_json

from .overlay import FONT, INK, write_text

GAP, MARGIN, BAR, CAPTION = 3, 6, 7, 20
BAR_COLOUR = (190, 110, 20)
USED_COLOR = '#0072B2'
UNSEEN_COLOR = '#222222'
EXPECTED = 'the JSON file of mmskip.VideoCost'
# Fields of a video that are lists, and what they are lists of.
LISTS = dict(stops=int, labels=int, frame_inds=int, scores=(int, float))
# Parts of a bar that are narrower get no percentage, in percent.
LEAST_LABELLED = 2.5


def read_frames(
    path: str | PathLike, indices: Sequence[int]
) -> tuple[list[np.ndarray], float]:
    """Read frames of a video, and its frame rate.

    Args:
        path: Video file.
        indices: Frames from 0, ascending; may repeat.

    Returns:
        Images, uint8, shape (H, W, 3) in blue, green, red; and frames per
        second.

    Raises:
        ValueError: A frame cannot be read.
    """
    capture = cv2.VideoCapture(str(path))
    fps = capture.get(cv2.CAP_PROP_FPS)
    images: list[np.ndarray] = []
    image, at = None, -1
    try:
        for index in indices:
            while at < index:
                found, image = capture.read()
                if not found:
                    raise ValueError(
                        f'{path}: expected frame {index}, got no more than '
                        f'{at + 1} frames; is this the video of the test?'
                    )
                at += 1
            images.append(image)
    finally:
        capture.release()
    return images, fps


def draw_strip(
    images: Sequence[np.ndarray],
    stops: Sequence[int],
    places: int,
    inside: Sequence[bool] | None = None,
    caption: str = '',
    height: int = 72,
) -> np.ndarray:
    """Draw a video's decisions.

    Args:
        images: Frames sampled, shape (H, W, 3).
        stops: Place where each stopped, from 0; ``places`` if it was
            forwarded to the end, -1 if it was not looked at.
        places: Number of places.
        inside: Whether each frame lies in an annotated interval; None draws
            no bar.
        caption: Line above the frames.
        height: Height of a thumbnail in pixels.

    Returns:
        Image, uint8, shape (H, W, 3).
    """
    scale = height / images[0].shape[0]
    width = round(images[0].shape[1] * scale)
    step = width + GAP
    canvas = np.full(
        (
            CAPTION + 2 * (height + GAP) + BAR + MARGIN,
            2 * MARGIN + len(images) * step - GAP,
            3,
        ),
        255,
        np.uint8,
    )
    if caption:
        write_text(canvas, caption, (MARGIN, 14), 0.42)
    low = CAPTION + height + GAP
    for index, (image, stop) in enumerate(zip(images, stops, strict=True)):
        x = MARGIN + index * step
        thumbnail = cv2.resize(
            image, (width, height), interpolation=cv2.INTER_AREA
        )
        canvas[CAPTION : CAPTION + height, x : x + width] = thumbnail
        canvas[low : low + height, x : x + width] = (
            thumbnail if stop == places else _card(stop, width, height)
        )
        if inside is not None and inside[index]:
            # Neighbours inside are joined.
            joined = index + 1 < len(images) and inside[index + 1]
            end = x + width + (GAP if joined else 0)
            y = low + height + GAP
            canvas[y : y + BAR, x:end] = BAR_COLOUR
    return canvas


def frames_inside(
    indices: Sequence[int],
    fps: float,
    segments: Sequence[tuple[float, float]],
) -> list[bool]:
    """Tell which frames lie in annotated intervals.

    Args:
        indices: Frames from 0.
        fps: Frames per second.
        segments: ``(start, end)`` in seconds; the end is outside.
    """
    return [
        any(start <= (index + 0.5) / fps < end for start, end in segments)
        for index in indices
    ]


def frame_rate(path: str | PathLike) -> float:
    """Read the frames per second of a video.

    Raises:
        ValueError: The file cannot be read.
    """
    capture = cv2.VideoCapture(str(path))
    fps = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    if not fps > 0:
        raise ValueError(f'{path}: expected a video, got something else')
    return fps


def sampled_frames(video: Mapping) -> list[int]:
    """Tell which frames of a video of ``mmskip.VideoCost`` were sampled.

    Raises:
        ValueError: The entry does not tell.
    """
    indices = video.get('frame_inds')
    if indices is None:
        raise ValueError(
            f'{video["video"]}: expected frame_inds in the JSON file, got '
            'none; add it to meta_keys of PackActionInputs and test again'
        )
    return indices


def draw_video(
    video: Mapping,
    path: str | PathLike,
    places: int,
    segments: Sequence[tuple[float, float]] | None = None,
    classes: Sequence[str] = (),
) -> np.ndarray:
    """Draw the decisions for a video of ``mmskip.VideoCost``'s file.

    Args:
        video: Its entry there.
        path: Its file on disk.
        places: Number of places.
        segments: Annotated intervals in seconds; None draws no bar.
        classes: Names of the classes.

    Returns:
        Image, uint8, shape (H, W, 3).

    Raises:
        ValueError: The entry does not tell which frames were sampled, or
            one of them cannot be read.
    """
    indices = sampled_frames(video)
    images, fps = read_frames(path, indices)
    inside = None
    if segments is not None:
        inside = frames_inside(indices, fps, segments)
    truth = ', '.join(_class(label, classes) for label in video['labels'])
    best = _class(int(np.argmax(video['scores'])), classes)
    caption = f'{Path(video["video"]).stem}: {truth} (predicted: {best})'
    return draw_strip(images, video['stops'], places, inside, caption)


def stack(strips: Sequence[np.ndarray]) -> np.ndarray:
    """Put strips below each other, on white."""
    width = max(strip.shape[1] for strip in strips)
    padded = [
        cv2.copyMakeBorder(
            *(strip, 0, MARGIN, 0, width - strip.shape[1]),
            cv2.BORDER_CONSTANT,
            value=(255, 255, 255),
        )
        for strip in strips
    ]
    return np.vstack(padded)


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
    """Return the percent of frames of each fate, in the order of Fig. 4.1.

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
    """Return the percent of the frames that were forwarded to the end.

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


def _class(label: int, classes: Sequence[str]) -> str:
    return classes[label] if label < len(classes) else str(label)


def _card(stop: int, width: int, height: int) -> np.ndarray:
    """Draw what stands in place of a frame that is not used."""
    unseen = stop == UNSEEN
    text = 'exit' if unseen else f'res{stop + 1}'
    card = np.full((height, width, 3), 25 if unseen else 225, np.uint8)
    size = min(0.45, width / 90)
    (w, h), _ = cv2.getTextSize(text, FONT, size, 1)
    at = ((width - w) // 2, (height + h) // 2)
    colour = (255, 255, 255) if unseen else INK
    write_text(card, text, at, size, colour)
    return card


def _is_video(video: Any, places: int) -> bool:
    """Tell whether an entry has stops, and its other fields are right."""
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
    """Return shades for the places, deeper ones darker."""
    places = [fate for fate in fates if fate.startswith('res')]
    shades = np.linspace(0.15, 0.6, max(len(places), 1))
    colours = dict(zip(places, colormaps['Oranges'](shades), strict=False))
    return {**colours, 'early term.': UNSEEN_COLOR, 'used': USED_COLOR}

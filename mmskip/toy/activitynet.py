"""Write toy untrimmed videos in the layout of ActivityNet.

It lies on disk so::

    activity_net.v1-3.min.json
    videos/v_toyt0000000.mp4           training
    videos/v_toyv0000000.mp4           validation
    train_list_videos.txt  val_list_videos.txt  classes.txt   for mmaction2
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mmskip.datasets.action_lists import (
    index_media,
    read_activitynet,
    write_classes,
    write_list,
)

from .figures import (
    ACTIONS,
    choose_stage,
    paint_board,
    paint_pose,
    paint_surroundings,
    paint_thing,
    stand,
)
from .folder import check_video_arguments, write_once, write_video

# Frames are painted this many times as large and then shrunk.
OVERSAMPLING = 2
# Standard deviation of the sensor's noise, of 255.
NOISE = 10.0
# What fills the frames without the action, and how often.
DISTRACTORS = dict(blank=0.13, scenery=0.13, title=0.13, idle=0.26, thing=0.35)
DISTRACTOR_FRAMES = (4, 14)
# Shares of the action's frames that repeat the frame before, and in which
# something hides the figure.
FROZEN_SHARE = 0.25
HIDDEN_SHARE = 0.3
# What is seen of an action: its share of the video, and how often in two
# parts.
ACTION_SHARE = (0.08, 0.3)
TWO_PARTS = 0.25
LEAST_PART = 4
# Movements per second are drawn between these.
TEMPO = (0.4, 1.0)
MARKER = 'toy_activitynet.json'
ANNOTATIONS = 'activity_net.v1-3.min.json'
# Grows when the same arguments give other bytes.
VERSION = 2
SPLITS = dict(training='train', validation='val')
LEAST = dict(train_videos=0, test_videos=0, frames=12, seed=0)


@dataclass(frozen=True)
class Shot:
    """A stretch of a video with one stage.

    Args:
        kind: ``action``, or a key of ``DISTRACTORS``.
        start: Its first frame.
        stop: The frame after its last.
    """

    kind: str
    start: int
    stop: int


def plan_shots(rng: np.random.Generator, frames: int) -> list[Shot]:
    """Decide when the action is seen and what else there is.

    Args:
        rng: Source of random numbers.
        frames: Number of frames of the video, at least 12.

    Returns:
        The shots, which cover all frames in order; one or two are the
        action.
    """
    length = round(rng.uniform(*ACTION_SHARE) * frames)
    length = max(length, LEAST_PART)
    two = rng.random() < TWO_PARTS and length >= 2 * LEAST_PART
    parts = [length]
    if two:
        first = int(rng.integers(LEAST_PART, length - LEAST_PART + 1))
        parts = [first, length - first]
    # The rest lies before, between and after the parts; two parts never
    # touch.
    rest = frames - length - (len(parts) - 1)
    cuts = np.sort(rng.integers(0, rest + 1, len(parts)))
    shots, at = [], 0
    for index, part in enumerate(parts):
        start = int(cuts[index]) + sum(parts[:index]) + index
        shots += _distract(rng, at, start)
        shots.append(Shot('action', start, start + part))
        at = start + part
    return shots + _distract(rng, at, frames)


class ToyVideo:
    """An untrimmed video ready to be filmed.

    What is seen outside the action does not depend on the label, bit by
    bit. ``thing`` shots show what belongs to an action, drawn by lot among
    all of them, without a figure.

    Args:
        label: Name of the action, a key of ``ACTIONS``.
        seed: Seeds of the data set and of the video.
        frames: Number of frames.
        size: ``(width, height)`` of the images in pixels.
        fps: Frames per second.

    Attributes:
        shots: What happens when.
    """

    def __init__(
        self,
        label: str,
        seed: tuple[int, ...],
        frames: int = 60,
        size: tuple[int, int] = (112, 112),
        fps: float = 10.0,
    ) -> None:
        self.label = label
        self.fps = fps
        self.size = size
        self._seed = seed
        self._canvas_size = (size[0] * OVERSAMPLING, size[1] * OVERSAMPLING)
        self.shots = plan_shots(np.random.default_rng([*seed, 0]), frames)

    @property
    def segments(self) -> list[tuple[float, float]]:
        """The times of the action: ``(start, end)`` in seconds."""
        return [
            (shot.start / self.fps, shot.stop / self.fps)
            for shot in self.shots
            if shot.kind == 'action'
        ]

    def film(self) -> Iterator[np.ndarray]:
        """Film the video.

        Yields:
            The frames, uint8 of shape (height, width, 3) in blue, green,
            red.
        """
        for number, shot in enumerate(self.shots, 1):
            # Of its own for each shot: what one draws does not move others.
            rng = np.random.default_rng([*self._seed, number])
            if shot.kind == 'action':
                canvases = self._act(shot, rng)
            else:
                canvases = self._distract(shot, rng)
            noise = np.random.default_rng([*self._seed, number, 1])
            for canvas in canvases:
                image = cv2.resize(
                    canvas, self.size, interpolation=cv2.INTER_AREA
                ).astype(np.float32)
                image += NOISE * noise.standard_normal(image.shape, np.float32)
                yield np.clip(image + 0.5, 0, 255).astype(np.uint8)

    def _act(
        self, shot: Shot, rng: np.random.Generator
    ) -> Iterator[np.ndarray]:
        """Yield the frames of the action, some frozen, some hidden."""
        stage = choose_stage(rng, self._canvas_size)
        around = paint_surroundings(stage, self._canvas_size)
        phases = self._phases(shot, rng)
        length = shot.stop - shot.start
        hidden = _stretch(rng, length, HIDDEN_SHARE)
        frozen = _stretch(rng, length, FROZEN_SHARE)
        for index in range(length):
            if index in frozen:
                index = frozen.start
            canvas = around.copy()
            paint_pose(canvas, stage, ACTIONS[self.label](phases[index]))
            if index in hidden:
                slide = (index - hidden.start) / max(len(hidden), 1) - 0.5
                paint_board(canvas, stage, 0.3 * slide)
            yield canvas

    def _distract(
        self, shot: Shot, rng: np.random.Generator
    ) -> Iterator[np.ndarray]:
        """Yield the frames without the action."""
        stage = choose_stage(rng, self._canvas_size)
        thing = ACTIONS[str(rng.choice(list(ACTIONS)))]
        phases = self._phases(shot, rng)
        around = paint_surroundings(stage, self._canvas_size)
        if shot.kind == 'blank':
            around[:] = stage.sky if rng.random() < 0.5 else 0
        if shot.kind == 'title':
            _paint_title(around, stage.thing[0], rng)
        still = rng.random() < 0.3
        for index in range(shot.stop - shot.start):
            phase = phases[0 if still else index]
            canvas = around.copy()
            if shot.kind == 'idle':
                paint_pose(canvas, stage, stand(phase))
            elif shot.kind == 'thing':
                paint_thing(canvas, stage, thing(phase)[1])
            yield canvas

    def _phases(self, shot: Shot, rng: np.random.Generator) -> np.ndarray:
        """Return the phase of the movement in each frame of a shot."""
        steps = np.arange(shot.stop - shot.start) / self.fps
        return (rng.random() + rng.uniform(*TEMPO) * steps) % 1


def make_toy_activitynet(
    root: str | os.PathLike,
    *,
    train_videos: int = 400,
    test_videos: int = 160,
    frames: int = 60,
    size: tuple[int, int] = (112, 112),
    fps: float = 10.0,
    seed: int = 0,
    on_video: Callable[[], None] | None = None,
) -> Path:
    """Write a toy ActivityNet, unless it is there already.

    It is written to ``{root}.partial`` and moved when it is complete. In
    every video a figure does one of eight things in 8 to 30 percent of the
    frames; the rest is blank, titles, scenery, figures that
    do nothing and things that nobody uses, none of which depends on the
    label. Single frames tell the action, except where a board hides it.
    The same arguments give the same bytes with the same releases of numpy
    and OpenCV.

    Args:
        root: Folder to write to; made if need be.
        train_videos: Number of videos of the subset ``training``.
        test_videos: Number of videos of the subset ``validation``.
        frames: Number of frames of each.
        size: ``(width, height)`` of the images in pixels, even numbers.
        fps: Frames per second.
        seed: Seed of all that is random.
        on_video: Called after each video written.

    Returns:
        ``root``, for ``data_root`` in a config.

    Raises:
        ValueError: An argument is out of range.
        FileExistsError: ``root`` holds something else.
    """
    arguments = dict(
        version=VERSION,
        train_videos=train_videos,
        test_videos=test_videos,
        frames=frames,
        size=list(size),
        fps=fps,
        seed=seed,
    )
    check_video_arguments(arguments, LEAST)

    def write(folder: Path) -> None:
        _write_all(folder, arguments, on_video)
        _write_lists(folder)

    return write_once(root, 'toy ActivityNet', MARKER, arguments, write)


def choose_labels(seed: tuple[int, ...], videos: int) -> list[str]:
    """Draw the actions of videos, as many of each as can be."""
    order = np.random.default_rng(seed).permutation(videos)
    names = list(ACTIONS)
    return [names[index % len(names)] for index in order]


def _distract(rng: np.random.Generator, start: int, stop: int) -> list[Shot]:
    """Fill frames with shots without the action."""
    shots = []
    while start < stop:
        length = int(rng.integers(*DISTRACTOR_FRAMES, endpoint=True))
        end = min(start + length, stop)
        kind = rng.choice(list(DISTRACTORS), p=list(DISTRACTORS.values()))
        shots.append(Shot(str(kind), start, end))
        start = end
    return shots


def _stretch(rng: np.random.Generator, length: int, share: float) -> range:
    """Draw consecutive frames, on average the given share of a shot."""
    count = round(rng.uniform(0, 2 * share) * length)
    start = int(rng.integers(0, length - count + 1))
    return range(start, start + count)


def _paint_title(
    canvas: np.ndarray, colour: tuple[int, int, int], rng: np.random.Generator
) -> None:
    """Paint bars like lines of text on a plain card."""
    height, width = canvas.shape[:2]
    canvas[:] = 245
    for row in range(int(rng.integers(2, 5))):
        y = int((0.3 + 0.13 * row) * height)
        half = int(rng.uniform(0.15, 0.4) * width)
        middle, thick = width // 2, height // 22
        cv2.rectangle(
            canvas, (middle - half, y), (middle + half, y + thick), colour, -1
        )


def _write_all(
    root: Path, arguments: dict, on_video: Callable[[], None] | None
) -> None:
    """Write every video and the annotation."""
    (root / 'videos').mkdir()
    counts = (arguments['train_videos'], arguments['test_videos'])
    database = {}
    for split, (subset, count) in enumerate(zip(SPLITS, counts, strict=True)):
        labels = choose_labels((arguments['seed'], split), count)
        for number, label in enumerate(labels):
            name = f'toy{subset[0]}{number:07d}'
            video = ToyVideo(
                label,
                (arguments['seed'], split, number),
                arguments['frames'],
                tuple(arguments['size']),
                arguments['fps'],
            )
            path = root / 'videos' / f'v_{name}.mp4'
            write_video(path, video.film(), video.fps, video.size)
            database[name] = _annotate(video, arguments, subset)
            if on_video is not None:
                on_video()
    release = dict(
        database=database, taxonomy=_taxonomy(), version='VERSION 1.3'
    )
    (root / ANNOTATIONS).write_text(json.dumps(release) + '\n')


def _annotate(video: ToyVideo, arguments: dict, subset: str) -> dict:
    """Return the entry of a video in the release's database."""
    width, height = video.size
    return dict(
        duration=arguments['frames'] / video.fps,
        subset=subset,
        resolution=f'{width}x{height}',
        url='',
        annotations=[
            dict(label=video.label, segment=list(segment))
            for segment in video.segments
        ],
    )


def _taxonomy() -> list[dict]:
    """Return the tree of classes: one root and its leaves."""
    root = dict(nodeId=0, nodeName='Root', parentId=None, parentName=None)
    return [
        root,
        *(
            dict(nodeId=n, nodeName=name, parentId=0, parentName='Root')
            for n, name in enumerate(ACTIONS, 1)
        ),
    ]


def _write_lists(root: Path) -> None:
    """Write what mmaction2 reads."""
    classes, entries = read_activitynet(root / ANNOTATIONS)
    write_classes(root / 'classes.txt', classes)
    if not any(entries.values()):
        return
    media = index_media(root / 'videos')
    for subset, split in SPLITS.items():
        if entries[subset]:
            path = root / f'{split}_list_videos.txt'
            write_list(path, entries[subset], media)

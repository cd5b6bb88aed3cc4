"""Run a model over a video, frame by frame, and account for each frame."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope
from mmengine.structures import BaseDataElement
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from torch import nn

from mmskip.core import MacCount, count_macs
from mmskip.engine.video_hook import is_converted
from mmskip.skip_conv import StreamState, stream
from mmskip.video import Frame, FrameResult
from mmskip.visualization import InputMap, computed_pixels, mirrored_sites

from .errors import UserError

GIGA = 1e9
# Pixels of a frame a side per value of its computed_mask.
MASK_STRIDE = 4


class FramePipeline:
    """The config's own test pipeline, built once, for frames in memory.

    Detectors see the whole frame. Top-down pose estimators see one box that
    stays where it is over the whole stream, because a Skip-Convolution
    compares each crop with the one before.

    Args:
        model: A detector or pose estimator from :func:`init_model`.
        bbox: The box of a pose estimator, (x1, y1, x2, y2) in pixels of the
            first frame; ``None`` takes the whole frame. It follows when the
            size of the frames changes.

    Raises:
        ValueError: The model has no ``cfg``.
        UserError: The model takes clips instead of frames, the config has
            no test pipeline, or ``bbox`` is empty or given to a detector.
    """

    def __init__(
        self, model: nn.Module, bbox: Sequence[float] | None = None
    ) -> None:
        cfg = getattr(model, 'cfg', None)
        if cfg is None:
            raise ValueError(
                f'expected a model with its config as `cfg`, got a bare '
                f'{type(model).__name__}; build it with '
                'mmskip.apis.init_model()'
            )
        self._scope = cfg.get('default_scope') or 'mmengine'
        if self._scope == 'mmaction':
            raise UserError(
                'expected a detector or a pose estimator, got a model of '
                'mmaction, which takes clips instead of frames'
            )
        self._is_pose = self._scope == 'mmpose'
        self._bbox = self._check_bbox(bbox)
        self._meta = dict(model.dataset_meta or {}) if self._is_pose else {}
        self._first_shape: tuple[int, int] | None = None
        self._last_shape: tuple[int, int] | None = None
        self._videos = 0
        with DefaultScope.overwrite_default_scope(self._scope):
            self._transform = Compose(_frame_transforms(cfg, self._is_pose))

    def __call__(self, image: np.ndarray, index: int = 0) -> dict[str, Any]:
        """Prepare a frame.

        Args:
            image: (H, W, 3) uint8, BGR.
            index: Number of the frame, becomes ``img_id``.

        Returns:
            ``inputs`` and ``data_samples``, lists of length one. The sample
            carries ``frame_id`` and ``video_id``, which counts changes of
            the frame's size.
        """
        self._follow(image.shape[:2])
        data: dict[str, Any] = dict(img=image, img_id=index)
        if self._is_pose:
            data.update(self._meta)
            data['bbox'] = self._box_of(image)
            data['bbox_score'] = np.ones(1, dtype=np.float32)
        packed = self._transform(data)
        packed['data_samples'].set_metainfo(
            dict(frame_id=index, video_id=self._videos)
        )
        return pseudo_collate([packed])

    def _follow(self, shape: tuple[int, int]) -> None:
        if self._first_shape is None:
            self._first_shape = shape
        elif shape != self._last_shape:
            self._videos += 1
        self._last_shape = shape

    def _check_bbox(self, bbox: Sequence[float] | None) -> np.ndarray | None:
        if bbox is None:
            return None
        if not self._is_pose:
            raise UserError(
                'a bbox is for top-down pose estimators; a detector takes '
                'the whole frame'
            )
        box = np.asarray(bbox, dtype=np.float32)
        if box.shape != (4,) or not (box[2:] > box[:2]).all():
            raise UserError(
                f'expected a bbox x1 y1 x2 y2 with x1 < x2 and y1 < y2, got '
                f'{" ".join(map(str, bbox))}'
            )
        return box

    def _box_of(self, image: np.ndarray) -> np.ndarray:
        """Scale the (1, 4) box along with the frame since the first one."""
        height, width = image.shape[:2]
        if self._bbox is None:
            return np.array([[0, 0, width, height]], dtype=np.float32)
        scale_x = width / self._first_shape[1]
        scale_y = height / self._first_shape[0]
        scale = np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
        return (self._bbox * scale)[None]


def stream_video(
    model: nn.Module,
    frames: Iterable[Frame | np.ndarray],
    bbox: Sequence[float] | None = None,
    dense: bool = False,
    with_mask: bool = True,
) -> Iterator[FrameResult]:
    """Show a model one video and yield its results one by one.

    Nothing of earlier frames is kept but the stream's memory of one frame.
    When the size of the frames changes, the stream starts again with a
    reference frame. The model is in the stream until the generator ends or
    is closed; do not use it otherwise meanwhile.

    Args:
        model: A detector or a top-down pose estimator with ``cfg``, in eval
            mode, see :func:`init_model`. One without converted layers runs
            densely.
        frames: Such as a reader from :func:`open_reader`, or BGR images.
        bbox: For pose estimators, see :class:`FramePipeline`.
        dense: Run a converted model as the dense one.
        with_mask: Work out ``computed_mask``.

    Yields:
        A result per frame.
    """
    prepare = FramePipeline(model, bbox)
    state = None if dense or not is_converted(model) else StreamState()
    shape = None
    with ExitStack() as stack:
        if state is not None:
            stack.enter_context(stream(model, state))
        macs = stack.enter_context(count_macs(model))
        before = MacCount(0, 0, 0, 0)
        for position, item in enumerate(frames):
            frame = _unpack(position, item)
            index, image = frame.index, frame.image
            if state is not None and shape not in (None, image.shape):
                state.reset()
            shape = image.shape
            start = time.perf_counter()
            # Not around the loop: it would hold in the caller's code, too.
            with torch.no_grad():
                prediction = model.test_step(prepare(image, index))[0].cpu()
            seconds = time.perf_counter() - start
            after = macs.total()
            cost = MacCount(
                *(a - b for a, b in zip(after, before, strict=True))
            )
            before = after
            mask = None
            if state is not None and with_mask:
                mask = _computed_mask(model, state, prediction, shape[:2])
            yield FrameResult(
                index, image, prediction, cost, mask, seconds, frame.time
            )


@dataclass
class StreamTotals:
    """Running sums over the frames of a stream.

    Attributes:
        frames: Frames so far.
        dense: MACs that the dense model would have done.
        spent: MACs that were done, gates included.
        model_seconds: Preparing frames and running the model, without the
            first frame, which pays for warming up.
        first_seconds: The same for the first frame.
        started: ``time.perf_counter()`` at the beginning.
    """

    frames: int = 0
    dense: int = 0
    spent: int = 0
    model_seconds: float = 0.0
    first_seconds: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def add(self, result: FrameResult) -> None:
        """Count one more frame."""
        self.frames += 1
        self.dense += result.cost.dense
        self.spent += result.cost.spent
        if self.frames > 1:
            self.model_seconds += result.seconds
        else:
            self.first_seconds = result.seconds

    @property
    def fps(self) -> float:
        """Frames per second of everything: reading, model, drawing."""
        elapsed = time.perf_counter() - self.started
        return self.frames / elapsed if elapsed > 0 else 0.0

    @property
    def reduction(self) -> float:
        """The dense model's MACs by those that were spent; 1 at first."""
        return self.dense / self.spent if self.spent else 1.0

    @property
    def ms_per_frame(self) -> float:
        """Milliseconds of the model per frame after the first."""
        if self.frames < 2:
            return 1000 * self.first_seconds
        return 1000 * self.model_seconds / (self.frames - 1)

    def summary(self) -> dict[str, Any]:
        """Return the totals as numbers per frame, for a table or a file."""
        frames = max(self.frames, 1)
        return dict(
            frames=self.frames,
            gmac_per_frame=self.spent / GIGA / frames,
            dense_gmac_per_frame=self.dense / GIGA / frames,
            reduction=self.reduction,
            ms_per_frame=self.ms_per_frame,
            ms_first=1000 * self.first_seconds,
            fps=self.fps,
        )

    def __str__(self) -> str:
        numbers = self.summary()
        return (
            f'{numbers["fps"]:.1f} fps, '
            f'{numbers["gmac_per_frame"]:.3g} GMAC/frame, '
            f'{numbers["reduction"]:.2f}x fewer than dense'
        )


class StreamProgress:
    """A progress bar in a terminal, a plain line now and then elsewhere.

    Args:
        console: Where to show it.
        num_frames: Frames to come, ``None`` if unknown.
        interval: Seconds between two plain lines.
    """

    def __init__(
        self,
        console: Console,
        num_frames: int | None,
        interval: float = 10.0,
    ) -> None:
        self._console = console
        self._num_frames = num_frames
        self._interval = interval
        self._next_line = time.perf_counter() + interval
        self._bar = Progress(
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TextColumn('{task.fields[cost]}'),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task('frames', total=num_frames, cost='')

    def __enter__(self) -> 'StreamProgress':
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def update(self, totals: StreamTotals) -> None:
        """Show the state after a frame."""
        if self._console.is_terminal:
            self._bar.update(
                self._task, completed=totals.frames, cost=str(totals)
            )
        elif time.perf_counter() >= self._next_line:
            self._next_line = time.perf_counter() + self._interval
            self._console.print(self._line(totals), soft_wrap=True)

    def _line(self, totals: StreamTotals) -> str:
        line = f'frame {totals.frames}'
        if self._num_frames is not None:
            left = (self._num_frames - totals.frames) / max(totals.fps, 1e-9)
            return f'{line}/{self._num_frames}: {totals}, {left:.0f} s left'
        return f'{line}: {totals}'


def _frame_transforms(cfg: Config, is_pose: bool) -> list[ConfigDict]:
    """Return the test pipeline for frames, without annotations.

    mmpose's ``LoadImage`` takes a frame as it is; mmdet has a loader of its
    own for that.
    """
    dataset = (cfg.get('test_dataloader') or {}).get('dataset')
    while dataset and 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    if not dataset or not dataset.get('pipeline'):
        raise UserError(
            'the config has no test_dataloader.dataset.pipeline, which says '
            'how to prepare a frame'
        )
    transforms = []
    for step in dataset['pipeline']:
        name = step['type']
        name = name if isinstance(name, str) else name.__name__
        name = name.rpartition('.')[2]
        if not is_pose and name == 'LoadImageFromFile':
            step = ConfigDict(
                type='mmdet.LoadImageFromNDArray',
                to_float32=step.get('to_float32', False),
            )
        elif name.startswith('Load') and 'Annotation' in name:
            continue
        transforms.append(step)
    return transforms


def _unpack(position: int, item: Frame | np.ndarray) -> Frame:
    frame = item if isinstance(item, Frame) else Frame(position, item)
    image = frame.image
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            'expected frames of shape (H, W, 3) and dtype uint8, got '
            f'{image.shape} and {image.dtype} at frame {frame.index}'
        )
    return frame


def _computed_mask(
    model: nn.Module,
    state: StreamState,
    prediction: BaseDataElement,
    frame_shape: tuple[int, int],
) -> np.ndarray:
    masks = state.last_masks()
    # Of the hosts' models only mmpose's have a flip test of this name.
    flips = (getattr(model, 'test_cfg', None) or {}).get('flip_test', False)
    return computed_pixels(
        masks,
        InputMap.from_metainfo(prediction.metainfo, frame_shape),
        frame_shape,
        mirrored_sites(masks) if flips else (),
        MASK_STRIDE,
    )

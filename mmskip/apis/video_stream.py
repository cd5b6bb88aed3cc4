"""Run a model over a video, frame by frame, and account for each frame."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import nn

from mmskip.apis.frame_pipeline import FramePipeline
from mmskip.apis.video_reader import Frame
from mmskip.engine.video_hook import is_converted
from mmskip.runtime import MacCount, StreamState, count_macs, stream
from mmskip.visualization.overlay import (
    InputMap,
    computed_pixels,
    mirrored_sites,
)


@dataclass(frozen=True)
class FrameResult:
    """What a model made of one frame.

    Attributes:
        index: Position of the frame in its source, from 0.
        frame: (H, W, 3) uint8, BGR, as it was read.
        prediction: Data sample on the CPU, in coordinates of ``frame``.
        cost: MACs of this frame.
        computed_mask: float32 (H, W), the share of converted outputs that
            were computed at each pixel; ``None`` if not asked for or when
            the model ran densely.
        seconds: Wall clock of preparing the frame and running the model.
    """

    index: int
    frame: np.ndarray
    prediction: BaseDataElement
    cost: MacCount
    computed_mask: np.ndarray | None
    seconds: float


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
            index, image = _unpack(position, item)
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
            yield FrameResult(index, image, prediction, cost, mask, seconds)


def _unpack(position: int, item: Frame | np.ndarray) -> tuple[int, np.ndarray]:
    index, image = item if isinstance(item, tuple) else (position, item)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            'expected frames of shape (H, W, 3) and dtype uint8, got '
            f'{image.shape} and {image.dtype} at frame {index}'
        )
    return index, image


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
    )

"""A frame of a source, and what a model made of it."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from mmengine.structures import BaseDataElement

from mmskip.core import MacCount


class Frame(NamedTuple):
    """A frame of a source.

    Attributes:
        index: Position in the source from 0, unreadable and dropped frames
            included.
        image: (H, W, 3) uint8, BGR, upright, of square pixels.
        time: Seconds since the first frame of a file; seconds since 1970 at
            which a frame of a live source arrived.
        restarts: True if the source was lost before this frame, which a
            stream then takes as a reference frame.
        damaged: True if the frame, or one that it is based upon, was
            decoded from data that are damaged or lost.
    """

    index: int
    image: np.ndarray
    time: float = 0.0
    restarts: bool = False
    damaged: bool = False


@dataclass(frozen=True)
class FrameResult:
    """The result of a model for one frame, and what it cost.

    Attributes:
        index: Position of the frame in its source, from 0.
        frame: (H, W, 3) uint8, BGR, as it was read.
        prediction: Data sample on the CPU, in coordinates of ``frame``.
            Tracked objects have ``pred_instances.instances_id``, -1 for
            those that are on no track yet.
        cost: MACs of this frame.
        computed_mask: float32 (h, w) of any size, the share of converted
            outputs that were computed at each place of the frame; ``None``
            if not asked for or when the model ran densely.
        seconds: Wall clock of preparing the frame and running the model.
        time: Of the frame, see :class:`Frame`.
        restart: Why the frame was computed as a reference frame; ``None``
            if it was not.
    """

    index: int
    frame: np.ndarray
    prediction: BaseDataElement
    cost: MacCount
    computed_mask: np.ndarray | None
    seconds: float
    time: float = 0.0
    restart: str | None = None

"""When a stream begins again by itself: a policy of reference frames.

Skipping pays while a camera looks at one scene. At a cut, a change of light
or a bump of the camera nearly everything fires, and what is left of the
memory is of another picture: a reference frame costs no more, and is right.
The papers leave this open; all numbers here are ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor

#: Pixels in each direction of the pictures that are compared, about.
THUMBNAIL = 96
#: They are compared in so many blocks in each direction, at most, and in
#: blocks of so many pixels of the frame, at least, for noise to average out.
MOST_BLOCKS = 16
BLOCK_PIXELS = 16
#: The contrast of an even picture, such as an empty road, is this share of
#: its range, so that a shift of its exposure is no cut.
RANGE_SHARE = 1 / 8
#: A block has changed if its mean moved by this share of the contrast.
BLOCK_STEP = 0.2

FIRST = 'first'
INTERVAL = 'interval'
CUT = 'cut'
BUSY = 'busy'


@dataclass(frozen=True)
class StreamPolicy:
    """Settings of when a stream takes a reference frame by itself.

    Args:
        reset_interval: Frames after which the stream restarts, however
            little changed; None for never.
        cut_share: A frame in which more than this share of the picture
            changed is a reference frame (scene cut, lights, gain, a bump);
            None for never.
        busy_share: While frames cost more than this share of a dense one,
            each is computed as a reference frame, densely; None for never.
        patience: Frames in a row that cost as much before that begins.
        look_again: Dense frames after which one frame skips again, to see
            whether the scene has calmed down.
        area: Share of the picture that can change, as only a region of it
            is watched.

    Raises:
        ValueError: A number is out of range.
    """

    reset_interval: int | None = None
    cut_share: float | None = 0.7
    busy_share: float | None = 0.75
    patience: int = 5
    look_again: int = 25
    area: float = 1.0

    def __post_init__(self) -> None:
        for name in ('cut_share', 'busy_share', 'area'):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(
                    f'expected {name} to be in (0, 1], got {value!r}'
                )
        for name in ('reset_interval', 'patience', 'look_again'):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(
                    f'expected {name} to be a positive int, got {value!r}'
                )


class PolicyMemory:
    """Remembers of a stream what its policy decides by.

    Args:
        policy: The settings.

    Attributes:
        is_busy: True while frames are computed densely because skipping
            saves nothing.
    """

    def __init__(self, policy: StreamPolicy) -> None:
        self.policy = policy
        self.is_busy = False
        self._last: _Thumbnail | None = None
        self._costly = 0
        self._dense = 0

    def decide(self, images: Tensor, frames: int) -> str | None:
        """Tell why the next frame is a reference frame, if it is one.

        Args:
            images: The frame, (N, C, H, W); one of streams in lock-step
                decides for all of them.
            frames: Frames since the last reference frame; 0 for none.

        Returns:
            The reason; None if the frame goes on.
        """
        cut = self._is_cut(images)
        if not frames:
            return FIRST
        if cut:
            return CUT
        if self.is_busy and self._dense < self.policy.look_again:
            self._dense += 1
            return BUSY
        interval = self.policy.reset_interval
        if interval is not None and frames >= interval:
            return INTERVAL
        return None

    def note_cost(self, share: float) -> None:
        """Take in what a frame that went on cost.

        Args:
            share: Of the MACs of a dense frame.
        """
        limit = self.policy.busy_share
        if limit is None:
            return
        self._dense = 0
        self._costly = self._costly + 1 if share > limit else 0
        # One costly frame is enough to go on as before.
        self.is_busy = self._costly >= (
            1 if self.is_busy else self.policy.patience
        )

    def _is_cut(self, images: Tensor) -> bool:
        """Compare the means of blocks with those of the frame before."""
        if self.policy.cut_share is None:
            return False
        # Few values: torch takes several threads for more, and waits.
        step = max(1, min(images.shape[2:]) // THUMBNAIL)
        grey = images.detach()[:, :, ::step, ::step].float()
        grey = grey.mean(1, keepdim=True)
        blocks = [
            max(1, min(MOST_BLOCKS, length // BLOCK_PIXELS))
            for length in images.shape[2:]
        ]
        picture = F.adaptive_avg_pool2d(grey, blocks)
        spread = F.adaptive_max_pool2d(grey, blocks) + F.adaptive_max_pool2d(
            -grey, blocks
        )
        now = _Thumbnail(
            picture.cpu().numpy(),
            (spread == 0).cpu().numpy(),
            float(max(grey.std(), (grey.max() - grey.min()) * RANGE_SHARE)),
        )
        before, self._last = self._last, now
        if before is None or before.picture.shape != now.picture.shape:
            return False
        limit = BLOCK_STEP * max(now.contrast, before.contrast)
        changed = np.abs(now.picture - before.picture) > limit
        shown = now.shown() | before.shown()
        share = self.policy.cut_share * self.policy.area
        counts = (changed & shown).sum((1, 2, 3)), shown.sum((1, 2, 3))
        return bool((counts[0] > share * counts[1]).any())


class _Thumbnail(NamedTuple):
    """Holds what is compared of a frame.

    Attributes:
        picture: (N, 1, h, w), the means of blocks.
        is_flat: Bool, the same; True for blocks of one value.
        contrast: Standard deviation of the frame, or a share of its range.
    """

    picture: np.ndarray
    is_flat: np.ndarray
    contrast: float

    def shown(self) -> np.ndarray:
        """Tell the picture from the bars of a letterbox, bool (N, 1, h, w).

        Bars are rows and columns of one value, from the borders on.
        """
        shown = np.ones_like(self.is_flat)
        for axis in (2, 3):
            first = np.take(self.picture, [0], 5 - axis)
            same = (self.is_flat & (self.picture == first)).all(
                5 - axis, keepdims=True
            )
            ahead = np.logical_and.accumulate(same, axis)
            behind = np.flip(
                np.logical_and.accumulate(np.flip(same, axis), axis), axis
            )
            shown &= ~(ahead | behind)
        return shown


def find_images(args: tuple, kwargs: Mapping[str, Any]) -> Tensor | None:
    """Find the images (N, C, H, W) among the arguments of a forward."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor) and value.dim() == 4:
            return value
    return None


def count_images(
    args: tuple, kwargs: Mapping[str, Any], num_frames: int = 1
) -> int | None:
    """Count the images, or windows, among the arguments of a forward.

    Args:
        args: A tensor among them has a batch of images (N, ...), or of
            several windows each, (N, windows, C, T, H, W).
        kwargs: The same.
        num_frames: Frames of a clip in the batch. With several, five
            dimensions may be those of clips (N, T, C, H, W), or of windows.

    Returns:
        Their number; None if there is no such tensor, or it cannot be told.
    """
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor) and value.dim() > 1:
            if value.dim() == 5 and num_frames > 1:
                return None
            return value.shape[: 2 if value.dim() > 5 else 1].numel()
    return None

"""The motion of the camera between two frames, and how memory follows it.

Skip-Convolutions for Efficient Video Processing (CVPR 2021), section 3.3,
proposes residuals against a warped frame, with a flow "computed from the
network input frames", and leaves it to future work. The flow here is one
homography per frame.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from mmskip.core.counting import TransientHook
from mmskip.options import check_least
from mmskip.registry import MODELS

from .layer import SkipConvMixin
from .policy import find_images
from .reference import SkipMemory
from .state import StreamState
from .warp import warp_memory

# Share of the tracked points that one model has to explain.
LEAST_SHARE = 0.5
# A simpler motion explains as much if it loses no more than this share.
MOST_LOST = 0.1


class Motion(Protocol):
    """Estimates the motion between two frames; hashable.

    Attributes:
        interpolate: True follows fractions of a cell, too; see
            :func:`mmskip.skip_conv.warp_memory`.
    """

    interpolate: bool

    def estimate(
        self, previous: np.ndarray, current: np.ndarray
    ) -> np.ndarray | None:
        """Tell where the pixels of a frame were in the one before.

        Args:
            previous: 8-bit grey image, (H, W).
            current: The next one.

        Returns:
            Homography (3, 3) from ``current`` to ``previous``, x first; None
            if it cannot be told.
        """


@MODELS.register_module()
@dataclass(frozen=True)
class HomographyMotion:
    """Finds one homography for the whole frame, from tracked corners.

    The simplest motion that explains the tracks is taken: none, a shift, a
    homography. Shifts close to whole pixels are rounded: what adds up over
    frames is then exact.

    A flip test shows the network a mirrored image, which moves the other
    way: results stay right, but that half saves nothing; switch it off.

    Args:
        points: Corners that are tracked, at most.
        least_points: Fewer that agree, and there is no estimate.
        tolerance: Distance in pixels up to which a track agrees.
        still: Shifts below this many pixels are none.
        snap: Shifts this close to whole pixels are rounded.
        interpolate: Follow fractions of a step, and rotation and zoom, by
            bilinear interpolation, which costs MACs and exactness; see
            :mod:`mmskip.skip_conv.warp`.
    """

    points: int = 400
    least_points: int = 12
    tolerance: float = 0.5
    still: float = 0.1
    snap: float = 0.05
    interpolate: bool = False

    def __post_init__(self) -> None:
        # cv2 takes -1 points for all of them, and a homography needs four.
        check_least(1, points=self.points)
        check_least(4, least_points=self.least_points)
        check_least(
            0, tolerance=self.tolerance, still=self.still, snap=self.snap
        )

    def estimate(
        self, previous: np.ndarray, current: np.ndarray
    ) -> np.ndarray | None:
        """Tell where the pixels of a frame were, see :class:`Motion`."""
        if np.array_equal(previous, current):
            return np.eye(3)
        tracks = self._track(previous, current)
        if tracks is None:
            return None
        new, old = tracks
        matrix, agree = cv2.findHomography(
            new, old, cv2.RANSAC, self.tolerance
        )
        explained = 0 if matrix is None else int(agree.sum())
        shift = np.median(old - new, axis=0)
        needed = max(self.least_points, LEAST_SHARE * len(new))
        for simple in (np.zeros(2), shift):
            away = np.linalg.norm(old - new - simple, axis=1)
            agreed = (old - new)[away < self.tolerance]
            if len(agreed) >= max((1 - MOST_LOST) * explained, needed):
                return self._shift(np.median(agreed, axis=0))
        return matrix if explained >= needed else None

    def _shift(self, shift: np.ndarray) -> np.ndarray:
        matrix = np.eye(3)
        whole = np.round(shift)
        if np.abs(shift).max() < self.still:
            return matrix
        near = np.abs(shift - whole).max() < self.snap
        matrix[:2, 2] = whole if near else shift
        return matrix

    def _track(
        self, previous: np.ndarray, current: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Find points (K, 2) in the current frame and where they were."""
        old = cv2.goodFeaturesToTrack(previous, self.points, 0.01, 5)
        if old is None or len(old) < self.least_points:
            return None
        new, found, _ = cv2.calcOpticalFlowPyrLK(previous, current, old, None)
        back, kept, _ = cv2.calcOpticalFlowPyrLK(current, previous, new, None)
        away = np.abs(back - old).max(axis=(1, 2))
        good = (found & kept).ravel().astype(bool) & (away < self.tolerance)
        if good.sum() < self.least_points:
            return None
        return new[good, 0], old[good, 0]


def grey_pair(
    previous: Tensor, current: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Bring two grey images to 8 bits and one scale, whatever their range.

    Black and white are those of the pair: the scale of a frame that was
    black, or brighter than all others, does not stay.

    Args:
        previous: (H, W).
        current: (H, W).

    Returns:
        Images of the same sizes, uint8.
    """
    pair = torch.stack((previous, current))
    low, high = pair.aminmax()
    grey = (pair - low) * (255 / (high - low).clamp_min(1e-6))
    old, new = grey.round().to(torch.uint8).numpy()
    return old, new


class FramesOfModel(Protocol):
    """Describes a stream, as far as motion is concerned.

    Attributes:
        model: Model that gets the frames.
        names: Names of its converted layers.
        num_frames: Consecutive frames of each stream in one batch.
        state: Memory of the video.
    """

    model: nn.Module
    names: dict[nn.Module, str]
    num_frames: int
    state: StreamState


class MotionFollower:
    """Warps a stream's memory before each of its frames.

    Args:
        binding: The stream.
    """

    def __init__(self, binding: FramesOfModel) -> None:
        self._binding = binding
        self._layers = {
            name: layer
            for layer, name in binding.names.items()
            if getattr(layer, 'motion', None) is not None
        }

    def attach(self) -> list[Any]:
        """Watch the model's forwards, if a layer asks for it.

        Returns:
            Handles with ``remove()``.
        """
        if not self._layers:
            return []
        hook = TransientHook(self._follow)
        return [
            self._binding.model.register_forward_pre_hook(
                hook, with_kwargs=True
            )
        ]

    def _follow(self, _: nn.Module, args: tuple, kwargs: dict) -> None:
        """Estimate the motion up to a frame, and follow it."""
        state = self._binding.state
        if self._binding.num_frames != 1:
            raise RuntimeError(
                'expected one frame per forward with motion compensation, '
                f'got {self._binding.num_frames}; use batch_size=1 in '
                'val_dataloader and test_dataloader, and stream(num_frames=1)'
            )
        last = state.last_images
        images = _images_of(args, kwargs).detach().float().mean(1).cpu()
        state.last_images = images
        if last is None or last.shape != images.shape:
            return
        maps: dict[Motion, Tensor | None] = {}
        for site, memory in list(state.slots.items()):
            layer = self._layers.get(site[0])
            if layer is None:
                continue
            motion = layer.motion
            if motion not in maps:
                maps[motion] = self._estimate(motion, last, images)
            if maps[motion] is not None:
                state.slots[site] = self._warp(
                    layer, memory, maps[motion], images.shape[1:]
                )

    def _estimate(
        self, motion: Motion, previous: Tensor, current: Tensor
    ) -> Tensor | None:
        """Estimate maps (N, 3, 3); None if nothing moved."""
        found = [
            motion.estimate(*grey_pair(*pair))
            for pair in zip(previous, current, strict=True)
        ]
        self._binding.state.lost_motion += sum(m is None for m in found)
        ledger = next(iter(self._layers.values()))._ledger
        if ledger is not None:
            ledger.record_uncounted(type(motion).__name__, len(found))
        maps = np.stack([np.eye(3) if m is None else m for m in found])
        if np.array_equal(maps, np.broadcast_to(np.eye(3), maps.shape)):
            return None
        return torch.from_numpy(maps).double()

    @staticmethod
    def _warp(
        layer: SkipConvMixin,
        memory: SkipMemory,
        maps: Tensor,
        size: tuple[int, int],
    ) -> SkipMemory:
        if len(memory.input) != len(maps):
            maps = _repeated(maps, len(memory.input))
        warped = warp_memory(
            memory,
            maps,
            size,
            layer.weight.shape[2:],
            layer.geometry(memory.input),
            layer.motion.interpolate,
        )
        if layer._ledger is not None:
            layer._ledger.record_overhead('motion.warp', warped.macs)
        return warped.memory


def _images_of(args: tuple, kwargs: dict) -> Tensor:
    """Find the images among a forward's arguments, or say what came."""
    images = find_images(args, kwargs)
    if images is None:
        raise RuntimeError(
            'expected the images (N, C, H, W) among the arguments of the '
            "model's forward, to estimate motion from; got "
            f'{[type(v).__name__ for v in (*args, *kwargs.values())]}'
        )
    return images


def _repeated(maps: Tensor, batch: int) -> Tensor:
    """Repeat the maps for a layer that gets each stream several times."""
    if batch % len(maps):
        raise RuntimeError(
            f'expected a layer to get a multiple of {len(maps)} images, as '
            f'many as the model, got {batch}; exclude it from motion '
            'compensation'
        )
    return maps.repeat(batch // len(maps), 1, 1)

"""The motion of the camera between two frames, and how memory follows it.

Skip-Convolutions for Efficient Video Processing (CVPR 2021), section 3.3,
proposes residuals against a warped frame, with a flow "computed from the
network input frames", and leaves it to future work. The flow here is one
homography per frame.

By Eq. 10 and 11 the residual is taken against the warped input, and added to
the warped output. Eq. 11 holds where warping and convolution commute; what to
do where they do not, the paper leaves open. Ours:

- Input and output follow the motion by whole cells of the layer's output
  only, ``stride`` cells of its input. That is a copy, and it commutes. The
  rest of the motion stays *pending* until it adds up to a cell; meanwhile it
  is residual, as without compensation. Outputs remain the convolution of the
  remembered input exactly.
- An output is *exposed* if it comes from beyond the old frame, or reads
  anything that was padding and no longer is, or the reverse. Nothing is known
  of it, so it is computed in full, whatever the gate says.
- With ``interpolate`` input and output follow by fractions of a cell and by
  any homography, bilinearly. Outputs then are approximations until they are
  computed in full. Where the input would move by whole cells and the output
  would not, no residual would tell, and whole cells are followed all the
  same.

Maps are homographies from where something is to where it was, (N, 3, 3) in
float64 on the CPU; cells are counted from (0, 0), x first.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmskip.core.counting import TransientHook
from mmskip.native import ConvGeometry
from mmskip.options import check_least
from mmskip.registry import MODELS

from .layer import SkipConvMixin
from .reference import SkipMemory
from .state import StreamState, find_images

# Share of the tracked points that one model has to explain.
LEAST_SHARE = 0.5
# A simpler motion explains as much if it loses no more than this share.
MOST_LOST = 0.1
# MACs of bilinear interpolation, per value: four neighbours, each weighed.
WARP_MACS = 4
# Tolerance in cells; far below what any estimate can tell.
ROUNDING = 1e-4


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
            :mod:`mmskip.skip_conv.motion`.
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


class WarpedMemory(NamedTuple):
    """Holds a memory after its warp.

    Attributes:
        memory: Input and output in the new frame, what is exposed, and the
            motion that is pending.
        macs: MACs of the interpolation.
    """

    memory: SkipMemory
    macs: int


def warp_memory(
    memory: SkipMemory,
    maps: Tensor,
    size: tuple[int, int],
    kernel_size: tuple[int, int],
    geometry: ConvGeometry,
    interpolate: bool = False,
) -> WarpedMemory:
    """Warp the input and the output that a call site remembers.

    Args:
        memory: Memory of a 2-D convolution, N streams.
        maps: (N, 3, 3), in pixels of the model's images.
        size: Height and width of those images.
        kernel_size: Kernel size of the layer.
        geometry: Geometry of the layer.
        interpolate: True follows the motion by fractions of a cell, too.

    Returns:
        The same memory if the motion does not add up to a cell yet.
    """
    grid = _input_grid(memory.input.shape[2:], size)
    outer = grid @ _output_grid(kernel_size, geometry)
    if memory.pending is not None:
        maps = memory.pending @ maps
    done = torch.stack(
        [_followed(m, grid, outer, size, interpolate) for m in maps]
    )
    pending = torch.linalg.solve(done, maps)
    if all(whole_shift(matrix) == (0, 0) for matrix in done):
        return WarpedMemory(memory._replace(pending=pending), 0)
    into, out_of = _rescaled(done, grid), _rescaled(done, outer)
    x, x_values = warp(memory.input, into)
    z, z_values = warp(memory.output, out_of)
    exposed = ~_known(out_of, z.shape[2:])
    exposed = exposed.to(x.device) | _mixed(x, into, kernel_size, geometry)
    if memory.exposed is not None:
        # Not computed since: the layer did not run in the last frame.
        exposed = torch.ones_like(exposed)
    warped = memory._replace(
        input=x, output=z, exposed=exposed, pending=pending
    )
    return WarpedMemory(warped, WARP_MACS * (x_values + z_values))


def warp(x: Tensor, maps: Tensor) -> tuple[Tensor, int]:
    """Fetch every cell from where it was; beyond the frame there are zeros.

    Args:
        x: (N, C, h, w).
        maps: (N, 3, 3), in cells of ``x``.

    Returns:
        The warped ``x``, and how many values were interpolated: none where a
        map is a shift by whole cells.
    """
    pairs = [_warp_one(x[i : i + 1], matrix) for i, matrix in enumerate(maps)]
    images, counts = zip(*pairs, strict=True)
    return torch.cat(images), sum(counts)


def whole_shift(matrix: Tensor) -> tuple[int, int] | None:
    """Read a map as a shift (x, y) by whole cells, None if it is none."""
    shift = matrix[:2, 2].round()
    whole = torch.eye(3, dtype=matrix.dtype)
    whole[:2, 2] = shift
    if (matrix - whole).abs().max() > ROUNDING:
        return None
    return int(shift[0]), int(shift[1])


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


def _followed(
    matrix: Tensor,
    grid: Tensor,
    outer: Tensor,
    size: tuple[int, int],
    interpolate: bool,
) -> Tensor:
    """Take the share of a motion that is followed now, in pixels.

    For a homography in whole cells it is the motion of the image's centre.
    """
    if interpolate:
        into = whole_shift(_rescaled(matrix, grid))
        out = whole_shift(_rescaled(matrix, outer))
        if (into is None) == (out is None):
            return matrix
    centre = matrix.new_tensor([size[1] / 2, size[0] / 2, 1.0])
    moved = matrix @ centre
    steps = outer.diagonal()[:2]
    shift = (moved[:2] / moved[2] - centre[:2]) / steps
    followed = torch.eye(3, dtype=matrix.dtype)
    followed[:2, 2] = shift.round() * steps
    return followed


def _warp_one(x: Tensor, matrix: Tensor) -> tuple[Tensor, int]:
    height, width = x.shape[2:]
    shift = whole_shift(matrix)
    if shift is not None:
        dx, dy = shift
        # A negative amount cuts off, which is the other side's shift.
        dx = max(-width, min(width, dx))
        dy = max(-height, min(height, dy))
        return F.pad(x, (-dx, dx, -dy, dy)), 0
    sources = _sources(matrix, range(height), range(width))
    scale = sources.new_tensor([width, height])
    grid = ((2 * sources + 1) / scale - 1)[None].to(x.device, torch.float32)
    moved = F.grid_sample(x.float(), grid, align_corners=False)
    return moved.to(x.dtype), x.numel()


def _sources(matrix: Tensor, rows: range, columns: range) -> Tensor:
    """Find where cells of the new grid were: (rows, columns, 2), x first."""
    y, x = torch.meshgrid(
        torch.tensor(rows, dtype=matrix.dtype),
        torch.tensor(columns, dtype=matrix.dtype),
        indexing='ij',
    )
    moved = torch.stack((x, y, torch.ones_like(x)), -1) @ matrix.mT
    return moved[..., :2] / moved[..., 2:]


def _inside(cells: Tensor, size: tuple[int, int]) -> Tensor:
    last = cells.new_tensor([size[1] - 1, size[0] - 1])
    return ((cells >= -ROUNDING) & (cells <= last + ROUNDING)).all(-1)


def _known(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Find the cells that were inside the old frame: bool (N, 1, *size)."""
    rows, columns = map(range, size)
    return torch.stack(
        [_inside(_sources(m, rows, columns), size)[None] for m in maps]
    )


def _mixed(
    x: Tensor,
    maps: Tensor,
    kernel_size: tuple[int, int],
    geometry: ConvGeometry,
) -> Tensor:
    """Find outputs that read what was padding and is not, or the reverse."""
    size = x.shape[2:]
    rows, columns = (
        range(-before, length + after)
        for length, (before, after) in zip(size, geometry.padding, strict=True)
    )
    identity = torch.eye(3, dtype=maps.dtype)
    here = _inside(_sources(identity, rows, columns), size)
    masks = []
    for matrix in maps:
        changed = here != _inside(_sources(matrix, rows, columns), size)
        if geometry.padding_mode != 'zeros' and whole_shift(matrix) != (0, 0):
            # Padding made of the image changes with any motion.
            changed = changed | ~here
        masks.append(changed[None])
    changed = torch.stack(masks).to(x.device, x.dtype)
    ones = changed.new_ones(1, 1, *kernel_size)
    counts = F.conv2d(
        changed, ones, None, geometry.stride, 0, geometry.dilation
    )
    return counts > 0.5


def _input_grid(cells: tuple[int, int], pixels: tuple[int, int]) -> Tensor:
    """Locate the cells of a layer's input in the image, in pixels.

    Cell 0 lies on pixel 0, as in networks of odd kernels with symmetric
    padding. For pure shifts it does not matter where.
    """
    steps = [
        _pixels_per_cell(p, c) for c, p in zip(cells, pixels, strict=True)
    ]
    return torch.diag(torch.tensor([*steps[::-1], 1.0], dtype=torch.float64))


def _pixels_per_cell(pixels: int, cells: int) -> float:
    """Find the stride so far, whole unless sizes say otherwise."""
    if cells > pixels:
        return 1 / _pixels_per_cell(cells, pixels)
    whole = round(pixels / cells)
    # Sizes that no stride divides are rounded, once per layer of stride 2.
    return whole if abs(whole * cells - pixels) < 2 * whole else pixels / cells


def _output_grid(
    kernel_size: tuple[int, int], geometry: ConvGeometry
) -> Tensor:
    """Locate the centres of the outputs of a layer in its input."""
    grid = torch.eye(3, dtype=torch.float64)
    # x, the last dimension, comes first.
    for row, dim in ((0, 1), (1, 0)):
        reach = geometry.dilation[dim] * (kernel_size[dim] - 1)
        grid[row, row] = geometry.stride[dim]
        grid[row, 2] = reach / 2 - geometry.padding[dim][0]
    return grid


def _rescaled(maps: Tensor, grid: Tensor) -> Tensor:
    """Turn maps between pixels into maps between the cells of a grid."""
    scaled = torch.linalg.inv(grid) @ maps @ grid
    return scaled / scaled[..., 2:, 2:]

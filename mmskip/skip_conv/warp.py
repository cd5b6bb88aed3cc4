"""The warp that moves the memory of a Skip-Convolution with the camera.

Skip-Convolutions for Efficient Video Processing (CVPR 2021), Eq. 10 and 11:
the residual is taken against the warped input, and added to the warped
output. Eq. 11 holds where warping and convolution commute; what to do where
they do not, the paper leaves open. Ours:

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

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmskip.native import ConvGeometry

from .reference import SkipMemory

# MACs of bilinear interpolation, per value: four neighbours, each weighed.
WARP_MACS = 4
# Tolerance in cells; far below what any estimate can tell.
ROUNDING = 1e-4


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

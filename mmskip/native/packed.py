"""Dense layers on oneDNN, whose weights are laid out once.

:class:`PackedKernels` multiply in float32, :class:`LowKernels` in bfloat16 or
in bytes. Both follow the weights when these change.
"""

import copy
import math
from collections.abc import Callable, Container
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .geometry import ConvGeometry, output_size
from .library import (
    MOST_WEIGHT,
    Grid,
    activate_,
    address_of,
    fingerprint,
    has_halves,
    is_exact_inference,
    round_to_bytes,
)

#: Layouts of a layer that are kept, one per size of images and of kernel.
KEPT = 8
#: Words of a kernel that are looked at, to notice other values.
WORDS = 64
#: Vectors that a matrix is laid out for; it serves other numbers, too.
VECTORS = 8
#: MACs from which oneDNN is worth calling; below, its overhead is longer.
LEAST = 1 << 20
#: Activations that it applies, and what it calls them.
_ACTIVATIONS = {None: 'none', 'relu': 'relu', 'silu': 'swish'}
#: The same in lower precisions, with their numbers.
_LOW_ACTIVATIONS = {
    **{name: (its, []) for name, its in _ACTIVATIONS.items()},
    'relu6': ('hardtanh', [0.0, 6.0]),
    'hardswish': ('hardswish', []),
}
#: Those that it applies to a sum with another image.
_AFTER_SUMS = (None, 'relu')
#: Types of numbers that layers in a lower precision read.
_LOW_INPUTS = (torch.float32, torch.bfloat16, torch.uint8)


class PackedKernels:
    """Keeps the kernels of a layer in the layouts that oneDNN reads fastest.

    Torch lays a kernel out anew in each call, which takes longer than to
    multiply by it where images are few and small, and on one thread it takes
    another library for 1x1 kernels of few images.

    They follow the kernel: other values are noticed by the count that torch
    keeps of writes, and by some of the values.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple, tuple[tuple, Tensor]] = {}

    def conv2d(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
        groups: int,
        activation: str | None = None,
    ) -> Tensor:
        """Convolve images as ``torch.nn.functional.conv2d`` does.

        Inputs that oneDNN does not take (of training, of a GPU, of another
        precision) and small ones go to that function.

        Args:
            x: (N, C_in, H, W).
            weight: (C_out, C_in / groups, K_h, K_w).
            bias: (C_out,), or None.
            stride: Step, by dimension.
            padding: Zeros on both sides, by dimension.
            dilation: Spacing of the kernel, by dimension.
            groups: Number of channel groups.
            activation: Applied to the output, ``relu`` and ``silu`` in the
                same pass; None: none.

        Returns:
            (N, C_out, H_out, W_out); from oneDNN channels last.
        """
        geometry = padding, stride, dilation, groups
        return self.convolve(x, weight, bias, geometry, Finish(activation))

    def convolve(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        geometry: tuple,
        finish: 'Finish',
    ) -> Tensor:
        """Convolve images, and do what comes next, if possible in one pass.

        Args:
            x: See :meth:`conv2d`; the others, too.
            weight: The same.
            bias: The same.
            geometry: Padding, stride, dilation and groups.
            finish: What comes next.
        """
        padding, stride, dilation, groups = geometry
        if not _packs(x, weight, stride):
            y = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
            return finish.apply(y)
        name, rest = finish.split(_ACTIVATIONS)
        packed = self._packed(x, weight, geometry)
        y = torch.ops.mkldnn._convolution_pointwise(
            x, packed, bias, *geometry, _ACTIVATIONS[name], [], ''
        )
        return rest.apply(y)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Multiply vectors as ``torch.nn.functional.linear`` does.

        Args:
            x: (N, C_in).
            weight: (C_out, C_in).
            bias: (C_out,), or None.

        Returns:
            (N, C_out).
        """
        # One vector reads the matrix once, however that lies.
        if len(x) < 2 or not _packs(x, weight, ()):
            return F.linear(x, weight, bias)
        packed = self._packed(x[:, :, None], weight, ())
        return torch.ops.mkldnn._linear_pointwise(
            x, packed, bias, 'none', [], ''
        )

    def _packed(self, x: Tensor, weight: Tensor, geometry: tuple) -> Tensor:
        place = x.shape[2:], weight.shape, geometry
        return self._keep(
            place, weight, lambda values: _laid_out(values, geometry, x)
        )

    def _keep(
        self, place: tuple, weight: Tensor, make: Callable[[Tensor], Any]
    ) -> Any:
        """Give what was made of a weight, made anew if that has changed."""
        state = (
            address_of(weight),
            -1 if weight.is_inference() else weight._version,
            fingerprint(weight, WORDS),
        )
        known, made = self._kept.get(place, (None, None))
        if known != state:
            if len(self._kept) >= KEPT:
                self._kept.clear()
            made = make(weight.detach().contiguous())
            self._kept[place] = state, made
        return made

    def __deepcopy__(self, memo: dict) -> 'PackedKernels':
        twin = copy.copy(self)
        twin._kept = {}
        return twin

    def __getstate__(self) -> dict:
        return {**self.__dict__, '_kept': {}}


class Finish(NamedTuple):
    """Tells what a layer does with its sums before it stores them.

    Attributes:
        activation: See :func:`.library.activate_`.
        addend: Image of the size of the output that is added before it.
        grid: Grid of the bytes to store; None stores numbers.
        overwrites: True if nobody reads the addend afterwards.
    """

    activation: str | None = None
    addend: Tensor | None = None
    grid: Grid | None = None
    overwrites: bool = False

    def split(
        self, taken: Container[str | None]
    ) -> tuple[str | None, 'Finish']:
        """Tell what an operator does that takes these activations, no addend.

        Returns:
            The activation, and what is to be done afterwards.
        """
        if self.addend is None and self.activation in taken:
            return self.activation, Finish(grid=self.grid)
        return None, self

    def apply(self, y: Tensor) -> Tensor:
        """Do it after all, to sums that were stored."""
        if self.addend is not None:
            y = y + self.addend
        y = activate(y, self.activation)
        return y if self.grid is None else round_to_bytes(y, self.grid)


class LowKernels(PackedKernels):
    """Multiplies in bfloat16 or in bytes, by oneDNN; sums are longer.

    An input in float32 gives an output in float32, one in bfloat16 or bytes
    one in bfloat16. A CPU without instructions for bfloat16 computes the same
    from rounded numbers, in float32.

    Weights in bytes have :data:`.library.MOST_WEIGHT` steps in each direction
    and one scale for each filter, as in plans.

    Args:
        grid: Grid of the inputs, to multiply in bytes; None: bfloat16.
    """

    def __init__(self, grid: Grid | None = None) -> None:
        super().__init__()
        self.grid = grid

    def convolve(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        geometry: tuple,
        finish: Finish,
    ) -> Tensor:
        """Convolve images, and do what comes next in the same pass.

        Args:
            x: (N, C_in, H, W), in float32, bfloat16, or bytes of the grid.
            weight: (C_out, C_in / groups, K_h, K_w), in float32.
            bias: (C_out,), or None.
            geometry: Padding, stride, dilation and groups.
            finish: What comes next.

        Returns:
            (N, C_out, H_out, W_out), channels last. Inputs of training and of
            exporters are convolved in float32.
        """
        if not _is_low(x):
            return super().convolve(x, weight, bias, geometry, finish)
        inside, rest = self._split(x, weight, geometry, finish)
        run = self._convolve_halves
        if self.grid is not None:
            run = self._convolve_bytes
        return rest.apply(run(x, weight, bias, geometry, inside))

    def _split(
        self, x: Tensor, weight: Tensor, geometry: tuple, finish: Finish
    ) -> tuple[Finish, Finish]:
        """Tell what is done in the pass that multiplies, and what after it."""
        if finish.addend is not None:
            if not _fits(x, weight, geometry, finish):
                return Finish(), finish
        elif finish.activation not in _LOW_ACTIVATIONS:
            return Finish(), finish
        elif self.grid is not None:
            return finish, Finish()
        return finish._replace(grid=None), Finish(grid=finish.grid)

    def _convolve_halves(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        geometry: tuple,
        finish: Finish,
    ) -> Tensor:
        given, x = x.dtype, _rounded(_as_image(x))
        packed = self._keep(
            (x.shape[2:], weight.shape, geometry, x.dtype),
            weight,
            lambda values: _laid_out(_rounded(values), geometry, x),
        )
        ops = torch.ops.mkldnn._convolution_pointwise
        if finish.addend is None:
            name, numbers = _LOW_ACTIVATIONS[finish.activation]
            y = ops.default(x, packed, bias, *geometry, name, numbers, '')
        else:
            # The bias has to be of the same type here, and only here.
            y = ops.binary(
                x,
                finish.addend.to(x.dtype),
                packed,
                None if bias is None else bias.to(x.dtype),
                *geometry,
                'add',
                1.0,
                finish.activation,
                [],
                '',
            )
        return y.to(_stored(given))

    def _convolve_bytes(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        geometry: tuple,
        finish: Finish,
    ) -> Tensor:
        stored = _stored(x.dtype)
        x = round_to_bytes(_as_image(x), self.grid)
        padding, stride, dilation, groups = geometry
        how = stride, padding, dilation, groups
        matrix, scales, zeros = self._keep(
            (x.shape[2:], weight.shape, geometry, x.dtype),
            weight,
            lambda values: _whole_numbers(
                values,
                lambda whole, scales: torch.ops.onednn.qconv_prepack(
                    whole, scales, *self.grid, *how, x.shape
                ),
            ),
        )
        ops = torch.ops.onednn.qconv2d_pointwise
        job = x, *self.grid, matrix, scales, zeros
        name, numbers = _LOW_ACTIVATIONS[finish.activation]
        if finish.addend is None:
            ends, dtype = _ends(finish.grid, stored)
            y = ops.default(*job, bias, *how, *ends, dtype, name, numbers, '')
            return y if finish.grid is not None else y.to(stored)
        _, dtype = _ends(None, stored)
        total = finish.addend.to(dtype)
        if total is finish.addend and not finish.overwrites:
            total = total.clone()
        y = ops.binary(
            *job,
            total,
            bias,
            *how,
            *(1.0, 0, dtype),
            *(1.0, 0, 'sum', 1.0, name, numbers, ''),
        )
        return y.to(stored)

    def transpose(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        geometry: tuple,
        finish: Finish,
    ) -> Tensor:
        """Do a transposed convolution, in bfloat16.

        Args:
            x: (N, C_in, H, W).
            weight: (C_in, C_out / groups, K_h, K_w).
            bias: (C_out,), or None.
            geometry: Padding, output padding, stride, dilation and groups.
            finish: What comes next.
        """
        if not _is_low(x):
            padding, more, stride, dilation, groups = geometry
            y = F.conv_transpose2d(
                x, weight, bias, stride, padding, more, groups, dilation
            )
            return finish.apply(y)
        given, x = x.dtype, _rounded(_as_image(x))
        reorder = torch.ops.mkldnn._reorder_convolution_transpose_weight
        packed = self._keep(
            (x.shape[2:], weight.shape, geometry, x.dtype),
            weight,
            lambda values: reorder(_rounded(values), *geometry, x.shape),
        )
        y = torch.ops.mkldnn._convolution_transpose_pointwise(
            x, packed, bias, *geometry, 'none', [], ''
        )
        return finish.apply(y.to(_stored(given)))

    def multiply(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        finish: Finish,
    ) -> Tensor:
        """Multiply vectors by a matrix, and do what comes next.

        Args:
            x: (..., C_in), in float32, bfloat16, or bytes of the grid.
            weight: (C_out, C_in), in float32.
            bias: (C_out,), or None.
            finish: What comes next.

        Returns:
            (..., C_out).
        """
        if not _is_low(x) or not x.numel():
            return finish.apply(F.linear(x, weight, bias))
        stored, vectors = _stored(x.dtype), x.reshape(-1, x.shape[-1])
        name, rest = finish.split(_AFTER_SUMS)
        name = _ACTIVATIONS[name]
        if self.grid is None:
            vectors = _rounded(vectors)
            packed = self._keep(
                (weight.shape, vectors.dtype),
                weight,
                lambda values: torch.ops.mkldnn._reorder_linear_weight(
                    _rounded(values), VECTORS
                ),
            )
            y = torch.ops.mkldnn._linear_pointwise(
                vectors, packed, bias, name, [], ''
            )
        else:
            matrix, scales, zeros = self._keep(
                (weight.shape, torch.uint8),
                weight,
                lambda values: _whole_numbers(
                    values,
                    lambda whole, _: torch.ops.onednn.qlinear_prepack(
                        whole, None
                    ),
                ),
            )
            ends, dtype = _ends(None, stored)
            vectors = round_to_bytes(vectors, self.grid)
            job = vectors, *self.grid, matrix, scales, zeros
            y = torch.ops.onednn.qlinear_pointwise(
                *job, bias, *ends, dtype, name, [], ''
            )
        return rest.apply(y.to(stored).unflatten(0, x.shape[:-1]))


def _laid_out(values: Tensor, geometry: tuple, x: Tensor) -> Tensor:
    """Lay a kernel, or with no geometry a matrix, out for oneDNN."""
    ops = torch.ops.mkldnn
    if not geometry:
        return ops._reorder_linear_weight(values, VECTORS)
    return ops._reorder_convolution_weight(values, *geometry, x.shape)


def _whole_numbers(
    values: Tensor, pack: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Turn weights into bytes: packed, their scales, and as many zeros."""
    scales = weight_scales(values)
    whole = values / scales.view(-1, *[1] * (values.dim() - 1))
    packed = pack(whole.round_().to(torch.int8), scales)
    return packed, scales, torch.zeros_like(scales, dtype=torch.int32)


def weight_scales(weight: Tensor) -> Tensor:
    """Give the step of each filter's weights, if they become bytes.

    Args:
        weight: (C_out, ...).
    """
    scales = weight.flatten(1).abs().amax(1) / MOST_WEIGHT
    return torch.where(scales > 0, scales, torch.ones(()))


def _is_low(x: Tensor) -> bool:
    """Tell if an input is that of a model in use, of a kind that is taken."""
    return (
        is_exact_inference()
        and x.is_cpu
        and x.dtype in _LOW_INPUTS
        and torch.backends.mkldnn.enabled
        and not torch.jit.is_tracing()
        and not torch.compiler.is_compiling()
    )


def _fits(x: Tensor, weight: Tensor, geometry: tuple, finish: Finish) -> bool:
    """Tell if oneDNN adds the addend and activates the sum in one pass."""
    padding, stride, dilation, groups = geometry
    pairs = tuple((a, a) for a in padding)
    where = ConvGeometry(stride, pairs, dilation, groups)
    sizes = output_size(x.shape[2:], weight.shape[2:], where)
    return (
        finish.activation in _AFTER_SUMS
        and finish.addend.shape == (len(x), len(weight), *sizes)
        and finish.addend.is_contiguous(memory_format=torch.channels_last)
    )


def _as_image(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _rounded(x: Tensor) -> Tensor:
    """Round to bfloat16, in float32 where that is what is multiplied."""
    x = x.to(torch.bfloat16)
    return x if has_halves() else x.float()


def _stored(given: torch.dtype) -> torch.dtype:
    """Name the type of the output of an input of a type."""
    return given if given == torch.float32 else torch.bfloat16


def _ends(
    grid: Grid | None, stored: torch.dtype
) -> tuple[tuple[float, int], torch.dtype]:
    """Name the grid of the outputs of bytes, and their type."""
    if grid is not None:
        return grid, torch.uint8
    return (1.0, 0), stored if has_halves() else torch.float32


def activate(x: Tensor, name: str | None) -> Tensor:
    """Apply the activation that is a part of a layer to its output.

    Args:
        x: Any tensor that nothing else reads.
        name: See :func:`.library.activate_`.
    """
    # A backward may need the values before it.
    return activate_(x.clone() if torch.is_grad_enabled() else x, name)


def _packs(x: Tensor, weight: Tensor, stride: tuple[int, ...]) -> bool:
    """Tell if oneDNN takes a convolution, and is worth calling.

    Exporters and compilers know torch's own functions only.
    """
    positions = x.numel() // max(x.shape[1], 1) // math.prod(stride)
    return (
        positions * weight.numel() >= LEAST
        and is_exact_inference()
        and x.is_cpu
        and x.dtype == torch.float32
        and torch.backends.mkldnn.enabled
        and not torch.jit.is_tracing()
        and not torch.compiler.is_compiling()
        and hasattr(torch.ops.mkldnn, '_convolution_pointwise')
    )

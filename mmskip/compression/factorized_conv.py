"""Convolutions in two factors, by an SVD of their kernel.

The compression baselines of Skip-Convolutions (CVPR 2021), section 4.2:
spatial SVD, after M. Jaderberg, A. Vedaldi, A. Zisserman, "Speeding up
convolutional neural networks with low rank expansions", BMVC 2014, and
weight SVD, after X. Zhang, J. Zou, K. He, J. Sun, "Accelerating very deep
convolutional networks for classification and detection", TPAMI 2015.

A kernel (C_out, C_in, k_1, ..., k_n) is read as a matrix. Its rows are the
input channels with the first ``split`` axes of the kernel, its columns the
remaining axes with the output channels. A matrix of rank R is a convolution
to R channels along the first axes, and one from there along the others.
"""

from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from mmskip.core import Converted, CountedWhole, dense_macs

SVD_METHODS = ('spatial', 'weight')


class FactorizedConv(CountedWhole, Converted):
    """Convolves in two cheaper steps, to R channels and from them.

    The factors ``first`` and ``second`` are plain layers of torch: another
    conversion may convert them in turn. Their MACs are counted here, as
    ``executed``, beside those of the convolution that they replace,
    ``dense``. With ``first`` and ``second`` as Skip-Convolutions the firing
    rate of this entry is hence a share of the original MACs.

    Weights of the plain convolution, in a ``state_dict``, are factorised
    when they are loaded.

    Attributes:
        first: C_in to R channels, without bias.
        second: R to C_out channels.
        method: ``spatial``: (k_h, 1), then (1, k_w). ``weight``: the whole
            kernel, then a pointwise one.
        rank: R.
        plain_class: Class that it had before.
    """

    first: nn.Module
    second: nn.Module
    method: str
    rank: int
    plain_class: type[nn.Module]

    def revert(self) -> None:
        """Give a plain convolution with the product of the factors back."""
        weight, bias = self.first.weight, self.second.bias
        product = recompose(weight.detach(), self.second.weight.detach())
        del self.first
        del self.second
        self.__class__ = self.plain_class
        del self.plain_class
        del self.method
        del self.rank
        self.weight = nn.Parameter(product, requires_grad=weight.requires_grad)
        self.register_parameter('bias', bias)

    def forward(self, input: Tensor) -> Tensor:
        """Run both factors, and report for them if MACs are counted."""
        if self._ledger is None:
            return self.second(self.first(input))
        tally = _Tally()
        output = tally.run(self.second, tally.run(self.first, input))
        dense = output.numel() * self.in_channels * prod(self.kernel_size)
        self._ledger.record(
            self, dense, tally.executed, tally.overhead, tally.reference
        )
        return output

    def extra_repr(self) -> str:
        return (
            f'{self.in_channels}, {self.out_channels}, '
            f'kernel_size={self.kernel_size}, method={self.method!r}, '
            f'rank={self.rank}'
        )

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args: Any
    ) -> None:
        key = f'{prefix}weight'
        if key in state_dict:
            weight = state_dict[key]
            shape = (self.out_channels, self.in_channels, *self.kernel_size)
            if weight.shape == shape:
                self._take_plain(state_dict, prefix)
            else:
                messages = args[-1]
                messages.append(
                    f'size mismatch for {key}: {tuple(weight.shape)} in the '
                    f'checkpoint, {shape} before it was factorised'
                )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _take_plain(self, state_dict: dict, prefix: str) -> None:
        """Put the factors where the plain weights were."""
        split = split_of(self, self.method)
        first, second = factorize(
            state_dict.pop(f'{prefix}weight'), split, self.rank
        )
        state_dict[f'{prefix}first.weight'] = first
        state_dict[f'{prefix}second.weight'] = second
        bias = state_dict.pop(f'{prefix}bias', None)
        if bias is not None:
            state_dict[f'{prefix}second.bias'] = bias


def factorize_conv(conv: nn.Module, method: str, rank: int) -> None:
    """Turn a plain convolution into a :class:`FactorizedConv`, in place.

    The factors are those of its weights; name and hooks stay.

    Args:
        conv: ``torch.nn.Conv2d``, or ``Conv3d`` for ``weight``, without
            groups.
        method: ``spatial`` or ``weight``.
        rank: R.

    Raises:
        ValueError: ``rank`` is out of range.
    """
    split = split_of(conv, method)
    weight, bias = conv.weight, conv.bias
    first, second = factorize(weight, split, rank)
    factors = (
        _conv_along(conv, first, None, range(split)),
        _conv_along(conv, second, bias, range(split, len(conv.kernel_size))),
    )
    del conv.weight
    del conv.bias
    conv.plain_class = type(conv)
    conv.__class__ = FactorizedConv
    conv.method, conv.rank = method, rank
    conv.first, conv.second = factors


def full_rank(shape: torch.Size, split: int) -> int:
    """Compute the rank beyond which a kernel of this shape gains nothing.

    Args:
        shape: (C_out, C_in, ...).
        split: Number of kernel axes that go into the first factor.
    """
    rows = shape[1] * prod(shape[2 : 2 + split])
    return min(rows, shape[0] * prod(shape[2 + split :]))


def singular_values(weight: Tensor, split: int) -> Tensor:
    """Compute the singular values of a kernel, largest first.

    Args:
        weight: Kernel (C_out, C_in, ...).
        split: Number of kernel axes that go into the first factor.

    Returns:
        (:func:`full_rank`,), in double precision.
    """
    return torch.linalg.svdvals(_matrix(weight.detach().double(), split))


def factorize(weight: Tensor, split: int, rank: int) -> tuple[Tensor, Tensor]:
    """Compute the best factors of a rank, by a truncated SVD.

    Both get the square root of the singular values. The decomposition is
    done in double precision.

    Args:
        weight: Kernel (C_out, C_in, ...).
        split: Number of kernel axes that go into the first factor.
        rank: R, from 1 to :func:`full_rank`.

    Returns:
        (R, C_in, ...) and (C_out, R, ...), with size 1 along the kernel axes
        of the other one, of the dtype of ``weight``.

    Raises:
        ValueError: ``rank`` is out of range.
    """
    most = full_rank(weight.shape, split)
    if not 1 <= rank <= most:
        raise ValueError(
            f'expected a rank from 1 to {most} for a kernel of shape '
            f'{tuple(weight.shape)}, got {rank}'
        )
    kernel = weight.shape[2:]
    matrix = _matrix(weight.detach().double(), split)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    root = values[:rank].sqrt()
    first = (left[:, :rank] * root).T.reshape(
        rank, weight.shape[1], *kernel[:split], *[1] * len(kernel[split:])
    )
    second = (root[:, None] * right[:rank]).reshape(
        rank, *[1] * split, *kernel[split:], weight.shape[0]
    )
    return (
        first.to(weight.dtype).contiguous(),
        second.movedim(-1, 0).to(weight.dtype).contiguous(),
    )


def recompose(first: Tensor, second: Tensor) -> Tensor:
    """Multiply two factors to the kernel that they stand for.

    Args:
        first: First factor (R, C_in, ...) from :func:`factorize`.
        second: Second factor (C_out, R, ...).

    Returns:
        (C_out, C_in, ...).
    """
    rank = len(first)
    rows = first.double().reshape(rank, -1)
    columns = second.double().movedim(0, -1).reshape(rank, -1)
    # Along each axis one of the two has size 1.
    sizes = zip(first.shape[2:], second.shape[2:], strict=True)
    shape = (first.shape[1], *(a * b for a, b in sizes), len(second))
    weight = (rows.T @ columns).reshape(shape).movedim(-1, 0)
    return weight.to(first.dtype).contiguous()


def split_of(conv: nn.Module, method: str) -> int:
    """Count the kernel axes that go into the first factor.

    Args:
        conv: Plain convolution.
        method: ``spatial`` takes all but the last one, (k_h, 1) and (1, k_w).
            ``weight`` takes all of them, with a pointwise convolution behind
            it; so does ``spatial`` where the last one has size 1, which
            leaves nothing to separate.
    """
    axes = len(conv.kernel_size)
    separable = method == 'spatial' and conv.kernel_size[-1] > 1
    return axes - 1 if separable else axes


def macs_per_rank(
    conv: nn.Module,
    method: str,
    input_shape: tuple[int, ...],
    output_shape: tuple[int, ...],
) -> int:
    """Count the MACs of each rank of a factorised convolution in one call.

    Args:
        conv: Plain convolution.
        method: ``spatial`` or ``weight``.
        input_shape: Shape (N, C_in, ...) of its input.
        output_shape: Shape (N, C_out, ...) of its output.
    """
    split = split_of(conv, method)
    second = first = output_shape[0] * prod(output_shape[2:])
    if split < len(conv.kernel_size):
        # Between the two the last axis is still as long as in the input.
        first = first // output_shape[-1] * input_shape[-1]
    return first * conv.in_channels * prod(
        conv.kernel_size[:split]
    ) + second * conv.out_channels * prod(conv.kernel_size[split:])


class _Tally:
    """Stands in for a ledger while the factors of a layer run."""

    def __init__(self) -> None:
        self.executed: int | Tensor = 0
        self.overhead = 0
        self.reference = 0

    def run(self, factor: nn.Module, x: Tensor) -> Tensor:
        """Run a factor and add up its MACs."""
        if not isinstance(factor, CountedWhole):
            output = factor(x)
            self.executed = self.executed + dense_macs(factor, output.shape)
            return output
        factor._ledger = self
        try:
            return factor(x)
        finally:
            del factor._ledger

    def record(
        self,
        module: nn.Module,
        dense: int,
        executed: int | Tensor,
        overhead: int = 0,
        reference: int = 0,
    ) -> None:
        """Add up the arguments of :meth:`MacLedger.record`."""
        self.executed = self.executed + executed
        self.overhead += overhead
        self.reference += reference


def _conv_along(
    conv: nn.Module, weight: Tensor, bias: nn.Parameter | None, axes: range
) -> nn.Module:
    """Make a plain convolution, with another's geometry along some axes."""

    def along(values: Any, neutral: int) -> tuple[int, ...]:
        return tuple(
            value if axis in axes else neutral
            for axis, value in enumerate(values)
        )

    kind = {4: nn.Conv2d, 5: nn.Conv3d}[weight.dim()]
    padding = conv.padding
    factor = kind(
        weight.shape[1],
        weight.shape[0],
        weight.shape[2:],
        along(conv.stride, 1),
        padding if isinstance(padding, str) else along(padding, 0),
        along(conv.dilation, 1),
        bias=bias is not None,
        padding_mode=conv.padding_mode,
        device='meta',
    )
    factor.weight = nn.Parameter(
        weight, requires_grad=conv.weight.requires_grad
    )
    factor.bias = bias
    return factor.train(conv.training)


def _matrix(weight: Tensor, split: int) -> Tensor:
    rows = weight.shape[1] * prod(weight.shape[2 : 2 + split])
    return weight.movedim(0, -1).reshape(rows, -1)

"""Shapes of what the native operators return, for ``torch.compile``."""

import torch
from torch import Tensor

#: Output channels in one block of a packed kernel, as in csrc/kernels.h.
_BLOCK = 32


def register_fakes() -> None:
    """Tell torch the shapes; the library has to be loaded."""
    for name, fake in _FAKES.items():
        torch.library.register_fake(f'mmskip::{name}', fake)


def _skip_frame(
    x: Tensor, input: Tensor, output: Tensor, *_: object
) -> tuple[Tensor, Tensor]:
    """Shapes of what ``mmskip::skip_frame`` returns."""
    size = (output.shape[0], 1, *output.shape[2:])
    return torch.empty_like(output), output.new_empty(size, dtype=torch.bool)


def _pack_weight(weight: Tensor, groups: int) -> Tensor:
    """Shape of what ``mmskip::pack_weight`` returns."""
    outputs, channels, height, width = weight.shape
    if groups > 1 and channels == 1 and outputs == groups:
        return weight.new_empty(height * width, outputs)
    blocks = -(-(outputs // groups) // _BLOCK)
    return weight.new_empty(groups, blocks, height * width, channels, _BLOCK)


def _soft_gate(
    x: Tensor, squeeze: Tensor, *others: Tensor | float | None
) -> Tensor:
    """Shape of what ``mmskip::soft_gate`` returns."""
    return x.new_empty(len(x), len(others[-3]))


def _mix_options(y: Tensor, *others: Tensor | list[int] | None) -> Tensor:
    """Shape of what ``mmskip::mix_options`` returns."""
    return y.new_empty(len(y), *others[-1], *y.shape[3:])


_FAKES = {
    'skip_frame': _skip_frame,
    'pack_weight': _pack_weight,
    'soft_gate': _soft_gate,
    'mix_options': _mix_options,
}

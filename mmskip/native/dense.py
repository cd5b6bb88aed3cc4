"""Dense convolutions in inference: oneDNN's, with kernels laid out once.

Torch lays a kernel out anew in each call, which takes longer than to multiply
by it where images are few and small, and on one thread it takes another
library for 1x1 kernels of few images.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .backend import activate_, is_exact_inference
from .library import address_of, fingerprint

#: Layouts of a layer that are kept, one per size of images and of kernel.
KEPT = 8
#: Words of a kernel that are looked at, to notice other values.
WORDS = 64
#: MACs from which oneDNN is worth calling; below, its overhead is longer.
LEAST = 1 << 20
#: Activations that it applies, and what it calls them.
_ACTIVATIONS = {None: 'none', 'relu': 'relu', 'silu': 'swish'}


class PackedKernels:
    """Keeps the kernels of a layer in the layouts that oneDNN reads fastest.

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
            activation: ``relu`` or ``silu``, applied in the same pass; None:
                neither.

        Returns:
            (N, C_out, H_out, W_out); from oneDNN channels last.
        """
        geometry = padding, stride, dilation, groups
        if not _packs(x, weight, stride):
            y = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
            return activate(y, activation)
        return torch.ops.mkldnn._convolution_pointwise(
            x,
            self._packed(x, weight, geometry),
            bias,
            *geometry,
            _ACTIVATIONS[activation],
            [],
            '',
        )

    def _packed(self, x: Tensor, weight: Tensor, geometry: tuple) -> Tensor:
        place = x.shape[2:], weight.shape, geometry
        state = (
            address_of(weight),
            -1 if weight.is_inference() else weight._version,
            fingerprint(weight, WORDS),
        )
        known, packed = self._kept.get(place, (None, None))
        if known != state:
            if len(self._kept) >= KEPT:
                self._kept.clear()
            packed = torch.ops.mkldnn._reorder_convolution_weight(
                weight.detach().contiguous(), *geometry, x.shape
            )
            self._kept[place] = state, packed
        return packed

    def __deepcopy__(self, memo: dict) -> 'PackedKernels':
        return PackedKernels()

    def __getstate__(self) -> dict:
        return {'_kept': {}}


def activate(x: Tensor, name: str | None) -> Tensor:
    """Apply the activation that is a part of a layer to its output.

    Args:
        x: Any tensor that nothing else reads.
        name: ``relu``, ``silu`` or None.
    """
    if not torch.is_grad_enabled():
        return activate_(x, name)
    return x if name is None else getattr(F, name)(x)


def _packs(x: Tensor, weight: Tensor, stride: tuple[int, ...]) -> bool:
    """Tell if oneDNN takes a convolution, and is worth calling."""
    positions = x.numel() // max(x.shape[1], 1) // math.prod(stride)
    return (
        positions * weight.numel() >= LEAST
        and is_exact_inference()
        and x.is_cpu
        and x.dtype == torch.float32
        and torch.backends.mkldnn.enabled
        and hasattr(torch.ops.mkldnn, '_convolution_pointwise')
    )

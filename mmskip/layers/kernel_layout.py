"""The memory layout that convolutions on CPUs are fastest in."""

import torch
from torch import nn

from .self_counting import Converted

#: What does nothing with its kernel but convolve; others may look into it.
_PLAIN = {
    'torch.nn.modules.conv': ('Conv2d', 'ConvTranspose2d'),
    'mmcv.cnn.bricks.wrappers': ('Conv2d', 'ConvTranspose2d'),
    'mmcv.cnn.bricks.conv2d_adaptive_padding': ('Conv2dAdaptivePadding',),
}


def lay_kernels_last(model: nn.Module) -> None:
    """Lay the kernels of 2-D convolutions channels last, in place.

    Activations follow the kernels. Other weights stay: mmcv's weight
    standardisation views kernels as vectors, deformable convolutions read
    contiguous ones.

    Args:
        model: Any model; its parameters stay the same objects.
    """
    for module in model.modules():
        kernel = module._parameters.get('weight')
        if kernel is not None and kernel.dim() == 4 and _is_plain(module):
            kernel.data = kernel.data.contiguous(
                memory_format=torch.channels_last
            )


def _is_plain(module: nn.Module) -> bool:
    kind = type(module)
    names = _PLAIN.get(kind.__module__, ())
    return isinstance(module, Converted) or kind.__name__ in names

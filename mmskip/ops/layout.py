"""In which order a convolution's output lies in memory."""

import torch
from torch import Tensor

#: By the number of dimensions.
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def follow_layout(output: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Lay an output out as torch's convolution would.

    What comes behind a layer may ask for contiguous memory, as ``view``
    does, or read it as such without asking: mmcv's operators do.

    Args:
        output: Of a 2-D or 3-D convolution (N, C_out, ...).
        x: Its input.
        weight: Its kernel.

    Returns:
        The output, channels last if the input or the kernel is, and else
        contiguous.
    """
    layout = torch.contiguous_format
    if is_channels_last(x) or is_channels_last(weight):
        layout = _CHANNELS_LAST[output.dim()]
    return output.contiguous(memory_format=layout)


def is_channels_last(tensor: Tensor) -> bool:
    """Whether the channels of a position lie side by side, others apart.

    Of tensors with one channel, which lie both ways, it is not true.

    Args:
        tensor: (N, C, H, W) or (N, C, T, H, W), with any strides; of others
            it is not true.
    """
    return (
        tensor.dim() in _CHANNELS_LAST
        and tensor.stride(1) == 1
        and tensor.stride(-1) >= tensor.shape[1] > 1
    )

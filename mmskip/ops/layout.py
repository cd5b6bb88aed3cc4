"""In which order a convolution's output lies in memory."""

import torch
from torch import Tensor


def follow_layout(output: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Lay an output out as torch's convolution would.

    What comes behind a layer may ask for contiguous memory, or read it as
    such without asking: mmcv's deformable convolutions do.

    Args:
        output: Of a 2-D convolution (N, C_out, H, W), or of another one,
            which stays.
        x: Its input.
        weight: Its kernel.

    Returns:
        The output, channels last if the input or the kernel is, and else
        contiguous.
    """
    if output.dim() != 4:
        return output
    last = is_channels_last(x) or is_channels_last(weight)
    layout = torch.channels_last if last else torch.contiguous_format
    return output.contiguous(memory_format=layout)


def is_channels_last(image: Tensor) -> bool:
    """Whether the channels of a position lie side by side, others apart.

    Of images with one channel, which lie both ways, it is not true.

    Args:
        image: (N, C, H, W), with any strides.
    """
    return image.stride(1) == 1 and image.stride(3) >= image.shape[1] > 1

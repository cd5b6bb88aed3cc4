"""What tells the contents of a tensor from others."""

import zlib

import torch
from torch import Tensor

from . import native


def fingerprint(tensor: Tensor, words: int = 0) -> int:
    """A hash of a tensor's values and of their places.

    Torch counts what writes to a tensor, but for what goes through ``.data``,
    as the averaging of weights does. That is found by the values only.

    Args:
        tensor: On the CPU, of any shape and dtype.
        words: Of a larger tensor so many words of 4 bytes, spread over it,
            are read, which takes no time; 0: all.
    """
    if not native.MISSING:
        return torch.ops.mmskip.fingerprint(tensor.detach(), words)
    values = tensor.detach().contiguous().flatten().view(torch.uint8)
    return zlib.crc32(values.numpy())


def address_of(tensor: Tensor) -> int:
    """Where the values of a tensor are, also of one that has none."""
    if tensor.is_cpu:
        return tensor.data_ptr()
    return tensor.untyped_storage()._cdata

"""Which implementation of the operators runs."""

import os

import torch
from torch import Tensor

from . import native
from .modes import is_exact_inference

BACKENDS = ('reference', 'native')


def active_backend() -> str:
    """Name of the backend that computes Skip-Convolutions.

    ``native`` computes in C++ only what fires; the default where it is
    built. ``reference`` masks a dense convolution with torch: exact,
    portable, and no faster than the dense model. The environment variable
    ``MMSKIP_BACKEND`` asks for one by name.

    Raises:
        ValueError: The variable names a backend that is not here.
    """
    wanted = os.environ.get('MMSKIP_BACKEND', '')
    if wanted == '':
        return 'reference' if native.MISSING else 'native'
    if wanted not in BACKENDS:
        raise ValueError(
            f'MMSKIP_BACKEND={wanted!r}: expected one of '
            f'{", ".join(BACKENDS)}; unset it to use the best one here'
        )
    if wanted == 'native' and native.MISSING:
        raise ValueError(
            f"MMSKIP_BACKEND='native': {native.MISSING}; unset it to use "
            "'reference'"
        )
    return wanted


def runs_native(x: Tensor) -> bool:
    """Whether what has no backward may take a tensor in C++.

    Args:
        x: The input of a layer.
    """
    return (
        is_exact_inference()
        and x.device.type == 'cpu'
        and x.dtype == torch.float32
        and active_backend() == 'native'
    )

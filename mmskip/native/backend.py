"""The choice of the implementation that runs the operators."""

import os

import torch
from torch import Tensor
from torch.nn import functional as F

from mmskip.native import library as native

BACKENDS = ('reference', 'native')


def active_backend() -> str:
    """Name the backend that computes Skip-Convolutions.

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
    """Tell if an operation without a backward may take a tensor in C++.

    Args:
        x: The input of a layer.
    """
    return (
        is_exact_inference()
        and x.device.type == 'cpu'
        and x.dtype == torch.float32
        and active_backend() == 'native'
    )


def is_exact_inference() -> bool:
    """Tell if neither gradients nor the precision of autocast are wanted.

    The native backend has neither.
    """
    return not (torch.is_grad_enabled() or torch.is_autocast_enabled('cpu'))


def is_in_backward() -> bool:
    """Tell if autograd is running a backward."""
    return torch._C._current_graph_task_id() != -1


def activate_(output: Tensor, name: str | None) -> Tensor:
    """Apply an activation in place.

    Args:
        output: Any shape.
        name: ``relu``, ``silu``, or None, which leaves it as it is.
    """
    if name is None:
        return output
    function = F.relu if name == 'relu' else F.silu
    return function(output, inplace=True)

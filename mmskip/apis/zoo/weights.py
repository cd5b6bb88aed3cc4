"""Random weights with which a model of any depth gives sane numbers."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd


@torch.no_grad()
def draw_weights(model: nn.Module, seed: int = 0) -> None:
    """Give all parameters other values than zero, in place.

    Constructors leave offsets, gates and the scales of residual branches at
    zero, and so hide what is behind them.

    Args:
        model: Any model.
        seed: Of the weights.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, module in model.named_modules():
        gain = math.sqrt(2) if isinstance(module, _ConvNd) else 1.0
        if 'offset' in name:
            gain *= _SMOOTH
        for key, value in module._parameters.items():
            if value is not None and value.is_floating_point():
                _draw(key, value, gain, generator)


#: Of what moves the positions at which images of noise are read.
_SMOOTH = 0.1


def _draw(
    name: str, value: Tensor, gain: float, generator: torch.Generator
) -> None:
    if value.dim() > 1 and name == 'weight':
        fan_in = max(value[0].numel(), 1)
        value.normal_(0, gain / math.sqrt(fan_in), generator=generator)
    elif value.dim() > 1 or 'bias' in name:
        value.normal_(0, 0.1, generator=generator)
    elif value.dim() == 1:
        value.uniform_(0.5, 1.5, generator=generator)


@contextmanager
def taking_statistics(model: nn.Module) -> Iterator[None]:
    """Let each batch norm scale what it gets first to values around one.

    Activations then neither vanish nor explode, whatever the depth. Means
    are not taken away and silent channels not made loud: rounding errors
    would grow from layer to layer.

    Args:
        model: In eval mode; its next forward gives the statistics.
    """
    met: set[nn.Module] = set()

    def take(norm: nn.Module, args: tuple) -> None:
        if norm not in met and norm.running_mean is not None:
            met.add(norm)
            square = args[0].pow(2).mean() + 1e-6
            norm.running_var.uniform_(0.5, 1.5).mul_(square)
            norm.running_mean.normal_(0, 0.1).mul_(square.sqrt())

    handles = [
        module.register_forward_pre_hook(take)
        for module in model.modules()
        if isinstance(module, _NormBase)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

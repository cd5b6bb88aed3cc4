"""Feature maps of a dynamic convolution, computed and rebuilt (VA-RED^2)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmskip.layers import DynamicConvMixin
from mmskip.ops import option_sizes
from mmskip.runtime import force_choices, record_choices


class LayerMaps(NamedTuple):
    """What a layer gave for one sample.

    Attributes:
        full: (C, T, H, W), all features computed, from the same input.
        mixed: (C, T, H, W), as its gate wanted it. T is 1 for a layer of
            images.
        channels: (C,) bool, which were computed.
        frames: (T,) bool, which were computed.
    """

    full: Tensor
    mixed: Tensor
    channels: Tensor
    frames: Tensor


def dynamic_layers(model: nn.Module) -> list[str]:
    """Names of the dynamic convolutions of a model.

    Raises:
        ValueError: There is none.
    """
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, DynamicConvMixin)
    ]
    if not names:
        raise ValueError(
            'expected a model with dynamic convolutions, got '
            f'{type(model).__name__} without any; convert it with '
            'mmskip.DynamicConversion'
        )
    return names


def capture_maps(
    model: nn.Module, layer: str, run: Callable[[], Any], sample: int = 0
) -> LayerMaps:
    """Run a model and keep what one of its layers gave for one sample.

    Args:
        model: In eval mode.
        layer: Name of a dynamic convolution.
        run: Runs the model once.
        sample: Row of the layer's batch: a view; a frame for a layer of
            images.

    Raises:
        ValueError: There is no such layer or sample.
    """
    known = dynamic_layers(model)
    if layer not in known:
        raise ValueError(
            f'expected a dynamic convolution, got {layer!r}; there are '
            f'{", ".join(known)}'
        )
    module = model.get_submodule(layer)
    seen: list[tuple[Tensor, Tensor]] = []

    def keep(_: nn.Module, inputs: tuple, output: Tensor) -> None:
        seen.append((inputs[0], output))

    with record_choices(model) as record:
        handle = module.register_forward_hook(keep)
        try:
            run()
        finally:
            handle.remove()
    choices = record.by_layer()[layer]
    inputs, outputs = (torch.cat(parts) for parts in zip(*seen, strict=True))
    if not 0 <= sample < len(inputs):
        raise ValueError(
            f'expected one of {len(inputs)} samples of {layer}, got {sample}'
        )
    with force_choices(model), torch.no_grad():
        full = module(inputs[sample : sample + 1])[0]
    mixed = outputs[sample]
    if mixed.dim() == 3:
        full, mixed = full.unsqueeze(1), mixed.unsqueeze(1)
    option = int(choices.channels[sample])
    count = option_sizes(len(mixed), option + 1)[option]
    stride = 2 ** int(choices.time[sample])
    return LayerMaps(
        full.cpu(),
        mixed.cpu(),
        torch.arange(len(mixed)) < count,
        torch.arange(mixed.shape[1]) % stride == 0,
    )

"""``force_choices``: dynamic convolutions that do as they are told."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from mmskip.layers import DynamicConvMixin


@contextmanager
def force_choices(
    model: nn.Module, time: int = 0, channels: int = 0
) -> Iterator[None]:
    """Let every dynamic layer use one option alone, with the weight 1.

    The gates still run, so the time that a model takes is the real one.
    With 0 on both axes the model equals the plain one.

    Args:
        model: A model with dynamic convolutions.
        time: Index of the temporal option, 0 for all frames; layers with
            fewer options use their smallest.
        channels: The same for channels.

    Raises:
        ValueError: An index is negative, or the model has no dynamic layer.
    """
    if min(time, channels) < 0:
        raise ValueError(
            f'expected indices of options >= 0, got {time} and {channels}'
        )
    layers = [m for m in model.modules() if isinstance(m, DynamicConvMixin)]
    if not layers:
        raise ValueError(
            'expected a model with dynamic convolutions, got '
            f'{type(model).__name__} without any'
        )
    before = [layer.gate.forced for layer in layers]
    for layer in layers:
        smallest = [options - 1 for options in layer.search_space]
        layer.gate.forced = tuple(map(min, (time, channels), smallest))
    try:
        yield
    finally:
        for layer, forced in zip(layers, before, strict=True):
            layer.gate.forced = forced

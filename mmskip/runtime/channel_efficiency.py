"""Add what channels with gates cost to a model's losses."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from mmskip.layers import GateCost, L0ConvMixin, follow_mode

from .errors import InputError

ChannelLoss = Callable[[list[GateCost]], dict[str, Tensor]]


class _Collector:
    """Hooks that collect costs in one forward."""

    def __init__(self, loss: ChannelLoss) -> None:
        self.loss = loss

    def begin(self, model: nn.Module, inputs: tuple) -> None:
        costs: list[GateCost] | None = [] if model.training else None
        for layer in _layers(model):
            layer._costs = costs
            follow_mode(layer, model.training)

    def end(self, model: nn.Module, inputs: tuple, output: Any) -> dict | None:
        layers = _layers(model)
        costs = layers[0]._costs
        for layer in layers:
            layer._costs = None
        if not model.training or not isinstance(output, dict):
            return None
        if not costs:
            raise InputError(
                'expected an L0-regularised convolution to run in training, '
                "got none: the model's forward called none of its layers"
            )
        return {**output, **self.loss(costs)}


def attach_channel_loss(model: nn.Module, loss: ChannelLoss) -> None:
    """Let a model return an efficiency loss next to its own losses.

    Args:
        model: A model with L0-regularised convolutions whose forward returns
            a dict of losses in training.
        loss: An ``L0Loss``.

    Raises:
        InputError: The model has no such layer.
    """
    if not _layers(model):
        raise InputError(
            f'expected L0-regularised convolutions for {type(loss).__name__},'
            f' got {type(model).__name__} without any; add dict(type='
            "'mmskip.L0Conversion') to conversions"
        )
    collector = _Collector(loss)
    model.register_forward_pre_hook(collector.begin)
    model.register_forward_hook(collector.end)


def _layers(model: nn.Module) -> list[L0ConvMixin]:
    return [m for m in model.modules() if isinstance(m, L0ConvMixin)]

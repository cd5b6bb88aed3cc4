"""Add the cost of gates to a model's losses."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from mmskip.layers import GateCost, SelfCounting

from .channel_efficiency import attach_channel_loss
from .dynamic_efficiency import attach_dynamic_loss
from .errors import InputError

EfficiencyLoss = Callable[[list[GateCost]], dict[str, Tensor]]


class _AddLoss:
    """A forward hook that adds entries to the losses a model returns."""

    def __init__(self, loss: EfficiencyLoss) -> None:
        self.loss = loss

    def __call__(
        self, model: nn.Module, inputs: tuple, output: Any
    ) -> dict | None:
        if not model.training or not isinstance(output, dict):
            return None
        layers = (m for m in model.modules() if isinstance(m, SelfCounting))
        binding = next(layers)._binding
        if not getattr(binding, 'costs', None):
            raise InputError(
                'expected clips of at least 2 frames in training, for the '
                'gates to have a cost; add custom_hooks=[dict(type='
                "'mmskip.VideoHook', num_frames=4)] or open mmskip.clip()"
            )
        return {**output, **self.loss(binding.costs)}


def attach_efficiency_loss(model: nn.Module, loss: EfficiencyLoss) -> None:
    """Let a model return an efficiency loss next to its own losses.

    Args:
        model: A converted model whose forward returns a dict of losses in
            training, as all models of the hosts do.
        loss: Takes what the gates of a forward cost and returns entries for
            the dict; those with ``loss`` in their name are summed. One
            with ``only_correct`` is about dynamic convolutions, see
            :func:`attach_dynamic_loss`, one with ``of_channels`` about
            L0-regularised ones, see :func:`attach_channel_loss`.
    """
    if hasattr(loss, 'only_correct'):
        attach_dynamic_loss(model, loss)
        return
    if getattr(loss, 'of_channels', False):
        attach_channel_loss(model, loss)
        return
    model.register_forward_hook(_AddLoss(loss))

"""What a layer of ours shares: a binding, a ledger, and clean copies."""

from typing import Any

import torch
from torch import nn

#: Modules that learn and that conversions add to layers.
ADDED = frozenset({'gate', 'cheap'})


class CountedWhole(nn.Module):
    """A module that reports its own MACs, those of its parts included.

    ``_ledger`` (set by ``count_macs``) is there only inside that block;
    copies and pickles of the module leave it behind.
    """

    _ledger: Any = None

    def __getstate__(self) -> dict:
        state = self.__dict__.copy()
        state.pop('_ledger', None)
        return state


class Converted:
    """A layer that a conversion made, and that can be what it was again."""

    def revert(self) -> None:
        """Give the layer back that was converted, in place."""
        raise NotImplementedError

    def why_final(self) -> str | None:
        """Why there is no way back from this layer, None if there is."""
        return None

    def native_refusal(self) -> str | None:
        """Why the native backend does not take this layer, if it is for it."""
        return None


class SelfCounting(CountedWhole):
    """A layer that may run under a binding and reports its own MACs.

    ``_binding`` (set by ``stream`` and ``clip``) is there only inside those
    blocks; copies and pickles of the layer leave it behind.
    """

    _binding: Any = None

    def __getstate__(self) -> dict:
        state = super().__getstate__()
        state.pop('_binding', None)
        return state


def follow_mode(layer: nn.Module, training: bool) -> None:
    """Let what was added to a layer learn whenever the model does.

    Hosts freeze stages (``frozen_stages``) by setting them to eval mode and
    all parameters in them to need no gradients, at each ``train()``. That is
    meant for weights that are pretrained, and not for gates. What is frozen
    while the layer's own weight is not stays so.

    Args:
        layer: A converted layer.
        training: Whether the model is in training mode.
    """
    layer.train(training)
    if training and not layer.weight.requires_grad:
        for name in ADDED & layer._modules.keys():
            layer._modules[name].requires_grad_(True)


def dense_macs(conv: nn.Module, output_shape: torch.Size) -> int:
    """MACs of a convolution that gave an output of this shape (N, C, ...).

    Positions x C_out x C_in / groups x K; padded taps count, bias does not.
    """
    return output_shape.numel() * conv.weight[0].numel()

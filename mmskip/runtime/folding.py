"""Fold batch norms into the layers before them, for inference."""

import itertools
from collections import Counter

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from mmskip.layers import NormGate, SkipConvMixin
from mmskip.ops import Folding


def fold_batch_norms(model: nn.Module) -> list[str]:
    """Fold each batch norm into the layer before it, in place.

    A model in eval mode computes the same without them, up to rounding. The
    thresholds of a converted layer stay in units of its output before the
    normalisation, so the same outputs fire; mmcv's ``fuse_conv_bn`` does not
    know of them, and of 2-D convolutions only. There is no way back.

    A norm belongs to the convolution or linear layer that is defined right
    before it in the same module, as mmcv has it. It stays if either is
    shared, if it keeps no statistics, or if it silences a channel of a layer
    whose gate looks at the output (what that was could not be told any
    more).

    Args:
        model: Any model in eval mode, converted or not.

    Returns:
        Names of the layers that changed.

    Raises:
        ValueError: A batch norm is in training mode.
    """
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.training:
            raise ValueError(
                f'expected batch norms in eval mode, got {name} in training '
                "mode; call the model's eval() first: they learn until then"
            )
    modules = list(model.named_modules(remove_duplicate=False))
    uses = Counter(module for _, module in modules)
    folded = []
    for parent_name, parent in modules:
        children = list(parent.named_children())
        for (name, child), (norm_name, norm) in itertools.pairwise(children):
            name, layer = _last_layer(name, child)
            if (
                uses[layer] == uses[norm] == 1
                and _is_pair(layer, norm)
                and _runs_in_turn(parent)
                and _fold(layer, norm)
            ):
                setattr(parent, norm_name, nn.Identity())
                folded.append(f'{parent_name}.{name}'.lstrip('.'))
    return folded


def _last_layer(name: str, child: nn.Module) -> tuple[str, nn.Module]:
    """What a norm behind a child would be folded into."""
    # mmaction2's Conv2plus1d is a convolution in two parts.
    inner = getattr(child, 'conv_t', None)
    return (name, child) if inner is None else (f'{name}.conv_t', inner)


def _is_pair(layer: nn.Module, norm: nn.Module) -> bool:
    return (
        isinstance(layer, (_ConvNd, nn.Linear))
        and not isinstance(layer, _ConvTransposeNd)
        and isinstance(norm, _BatchNorm)
        and norm.running_var is not None
        and norm.num_features == len(layer.weight)
    )


def _runs_in_turn(parent: nn.Module) -> bool:
    """Whether a module, should it be mmcv's ConvModule, has this order."""
    order = getattr(parent, 'order', None)
    return not isinstance(order, tuple) or 'conv,norm' in ','.join(order)


@torch.no_grad()
def _fold(layer: _ConvNd | nn.Linear, norm: _BatchNorm) -> bool:
    """Fold one batch norm; returns whether that was possible."""
    factor = torch.rsqrt(norm.running_var + norm.eps)
    shift = -norm.running_mean * factor
    if norm.affine:
        factor, shift = factor * norm.weight, shift * norm.weight + norm.bias
    gate = layer.gate if isinstance(layer, SkipConvMixin) else None
    if isinstance(gate, NormGate) and gate.kind == 'output_norm':
        if not factor.all():
            return False
        gate.folded = Folding(factor, shift)
    wide = factor.view(-1, *[1] * (layer.weight.dim() - 1))
    bias = shift if layer.bias is None else layer.bias * factor + shift
    trains = layer.weight.requires_grad
    layer.weight = nn.Parameter(layer.weight * wide, requires_grad=trains)
    layer.bias = nn.Parameter(bias, requires_grad=trains)
    return True

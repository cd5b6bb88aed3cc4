"""Fold batch norms into the convolutions before them, for inference."""

import itertools
from collections import Counter

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from mmskip.layers import DynamicConvMixin, NormGate, SkipConvMixin
from mmskip.ops import Folding


def fold_batch_norms(model: nn.Module) -> list[str]:
    """Fold each batch norm into the convolution before it, in place.

    A model in eval mode computes the same without them, up to rounding. The
    thresholds of a converted layer stay in units of its output before the
    normalisation, so the same outputs fire; mmcv's ``fuse_conv_bn`` does not
    know of them. There is no way back.

    A norm belongs to the convolution that is defined right before it in the
    same module, as mmcv has it. It stays if either is shared, if it keeps no
    statistics, or if it silences a channel of a layer whose gate looks at
    the output (what that was could not be told any more).

    Args:
        model: Any model in eval mode, converted or not.

    Returns:
        Names of the convolutions that changed.

    Raises:
        ValueError: A batch norm is in training mode.
    """
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.training:
            raise ValueError(
                f'expected batch norms in eval mode, got {name} in training '
                "mode; call the model's eval() first: they learn until then"
            )
    uses = Counter(m for _, m in model.named_modules(remove_duplicate=False))
    folded = []
    for parent_name, parent in list(model.named_modules()):
        children = list(parent.named_children())
        for (name, conv), (norm_name, norm) in itertools.pairwise(children):
            if (
                uses[conv] == uses[norm] == 1
                and _is_pair(conv, norm)
                and _runs_in_turn(parent)
                and _fold(conv, norm)
            ):
                setattr(parent, norm_name, nn.Identity())
                folded.append(f'{parent_name}.{name}'.lstrip('.'))
    return folded


def _is_pair(conv: nn.Module, norm: nn.Module) -> bool:
    return (
        isinstance(conv, _ConvNd)
        and not isinstance(conv, (_ConvTransposeNd, DynamicConvMixin))
        and isinstance(norm, _BatchNorm)
        and norm.running_var is not None
        and norm.num_features == conv.out_channels
    )


def _runs_in_turn(parent: nn.Module) -> bool:
    """Whether a module, should it be mmcv's ConvModule, has this order."""
    order = getattr(parent, 'order', None)
    return not isinstance(order, tuple) or 'conv,norm' in ','.join(order)


@torch.no_grad()
def _fold(conv: _ConvNd, norm: _BatchNorm) -> bool:
    """Fold one batch norm; returns whether that was possible."""
    factor = torch.rsqrt(norm.running_var + norm.eps)
    shift = -norm.running_mean * factor
    if norm.affine:
        factor, shift = factor * norm.weight, shift * norm.weight + norm.bias
    gate = conv.gate if isinstance(conv, SkipConvMixin) else None
    if isinstance(gate, NormGate) and gate.kind == 'output_norm':
        if not factor.all():
            return False
        gate.folded = Folding(factor, shift)
    wide = factor.view(-1, *[1] * (conv.weight.dim() - 1))
    bias = shift if conv.bias is None else conv.bias * factor + shift
    trains = conv.weight.requires_grad
    conv.weight = nn.Parameter(conv.weight * wide, requires_grad=trains)
    conv.bias = nn.Parameter(bias, requires_grad=trains)
    return True

"""Fold batch norms into the layers before them, for inference."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmskip.layers import (
    DynamicConvMixin,
    L0ConvMixin,
    NormGate,
    PlanarConv3d,
    SkipConvMixin,
)
from mmskip.ops import Folding

from .dataflow import find_readers

#: Exact classes: others may do something with their weights.
_LAYERS = {nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, PlanarConv3d}
_CONVERTED = (DynamicConvMixin, L0ConvMixin, SkipConvMixin)
try:
    from mmcv.cnn.bricks import Conv2d, Conv2dAdaptivePadding, Conv3d, Linear
except ImportError:  # mmcv is optional: torch and mmengine suffice
    pass
else:
    _LAYERS |= {Conv2d, Conv2dAdaptivePadding, Conv3d, Linear}
_FORWARDS = {_BatchNorm.forward, nn.SyncBatchNorm.forward}


class FoldedBatchNorm(nn.Identity):
    """In the place of a batch norm that a linear layer took.

    That took the last axis for the channels, and a norm takes the second.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return (N, C) as it is.

        Raises:
            ValueError: It has more dimensions.
        """
        if input.dim() != 2:
            raise ValueError(
                'expected (N, C) behind a linear layer that mmskip.fold() '
                f'gave its batch norm, got {tuple(input.shape)}; do not fold '
                'this model'
            )
        return input


def fold_batch_norms(model: nn.Module) -> tuple[list[str], dict[str, str]]:
    """Fold each batch norm into the layer before it, in place.

    A model in eval mode computes the same without them, up to rounding. The
    thresholds of a converted layer stay in units of its output before the
    normalisation, so the same outputs fire; mmcv's ``fuse_conv_bn`` does not
    know of them, and of 2-D convolutions only. There is no way back.

    A norm belongs to a convolution or linear layer if, by the forwards of
    the model, it reads nothing else and nothing else reads that, see
    :func:`mmskip.runtime.find_readers`. It stays if it belongs to several or
    keeps no statistics, and if it silences a channel of a layer that must
    know what that was: one whose gate looks at the output, a dynamic one.

    Args:
        model: Any model in eval mode.

    Returns:
        Names of the layers that changed, and why each other norm stays.

    Raises:
        ValueError: A batch norm is in training mode.
    """
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.training:
            raise ValueError(
                f'expected batch norms in eval mode, got {name} in training '
                "mode; call the model's eval() first: they learn until then"
            )
    found = find_readers(model, _is_layer, _is_norm)
    names, left = found.names, dict(found.left)
    changed = set()
    for norm, layers in found.layers.items():
        why = 'several layers share it' if len(layers) > 1 else None
        if why is None:
            why = _refusal(layers[0], norm)
        if why is not None:
            left[norm] = why
            continue
        _fold(layers[0], norm)
        is_linear = isinstance(layers[0], nn.Linear)
        empty = FoldedBatchNorm() if is_linear else nn.Identity()
        replace(model, names[norm], empty)
        changed.add(layers[0])
    return found.describe(changed, left)


def replace(model: nn.Module, names: list[str], new: nn.Module) -> None:
    """Put a module in the places of another one.

    Args:
        model: Where it was.
        names: All its names there.
        new: What is to be there, in eval mode from now on.
    """
    for name in names:
        parent, _, own = name.rpartition('.')
        setattr(model.get_submodule(parent), own, new.eval())


def _is_layer(module: nn.Module) -> bool:
    return type(module) in _LAYERS or isinstance(module, _CONVERTED)


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and type(module).forward in _FORWARDS


def _refusal(layer: nn.Module, norm: _BatchNorm) -> str | None:
    """Why a layer cannot take a norm, None if it can."""
    weight = layer._parameters.get('weight')
    if weight is None or 'bias' not in layer._parameters:
        return 'the weights it would change are computed in each call'
    if norm.running_var is None:
        return 'it keeps no statistics'
    if norm.num_features != len(weight):
        return f'it has {norm.num_features} channels, not {len(weight)}'
    gate = getattr(layer, 'gate', None)
    by_output = isinstance(gate, NormGate) and gate.kind == 'output_norm'
    if by_output and gate.folded is not None:
        return 'its layer took another one'
    dynamic = isinstance(layer, DynamicConvMixin)
    if (by_output or dynamic) and not _affine(norm)[0].all():
        return 'it silences a channel that the layer must know'
    # By its filters a dynamic layer tells the factors.
    if dynamic and not weight.flatten(1).any(1).all():
        return 'a filter of its dynamic layer is 0'
    return None


@torch.no_grad()
def _affine(norm: _BatchNorm) -> tuple[torch.Tensor, torch.Tensor]:
    """Factor and shift of each channel."""
    factor = torch.rsqrt(norm.running_var.double() + norm.eps)
    shift = -norm.running_mean * factor
    if norm.weight is not None:
        factor, shift = factor * norm.weight, shift * norm.weight
    return factor, shift if norm.bias is None else shift + norm.bias


@torch.no_grad()
def _fold(layer: nn.Module, norm: _BatchNorm) -> None:
    """Change the weights of a layer."""
    weight, bias = layer.weight, layer.bias
    factor, shift = (t.to(weight.device) for t in _affine(norm))
    gate = getattr(layer, 'gate', None)
    if isinstance(gate, NormGate) and gate.kind == 'output_norm':
        gate.folded = Folding(factor.to(weight), shift.to(weight))
    wide = factor.view(-1, *[1] * (weight.dim() - 1))
    new_bias = shift if bias is None else bias * factor + shift
    trains = weight.requires_grad
    for name, new in (('weight', weight * wide), ('bias', new_bias)):
        # Channels last stays.
        new = nn.Parameter(new.to(weight.dtype), requires_grad=trains)
        setattr(layer, name, new)

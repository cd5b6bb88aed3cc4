"""``fold``: a model as it should run when it is only used."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.fusion import (
    fuse_conv_bn_weights,
    fuse_linear_bn_weights,
)

from mmskip.layers import (
    DynamicConvMixin,
    PlanarConv3d,
    PlanarMaxPool3d,
    is_planar_conv,
    is_planar_pool,
)


@torch.no_grad()
def fold(model: nn.Module) -> nn.Module:
    """Prepare a model for inference, in place; it computes the same.

    - A batch norm goes into the convolution or linear layer before it. As
      mmcv's ``fuse_conv_bn``, which knows 2-D convolutions only, this takes
      the order of a module's children for that of its forward.
    - Convolutions and maxima of clips that look along one plane run as those
      of images.

    Args:
        model: In eval mode.

    Returns:
        The model.

    Raises:
        ValueError: The model is in training mode.
    """
    if model.training:
        raise ValueError('expected a model in eval mode; call .eval() first')
    _fold_norms(model)
    for module in model.modules():
        if is_planar_conv(module):
            module.__class__ = PlanarConv3d
        elif is_planar_pool(module):
            module.__class__ = PlanarMaxPool3d
        elif isinstance(module, DynamicConvMixin):
            module.planar = True
    return model


def _fold_norms(module: nn.Module) -> None:
    last = None
    for name, child in list(module.named_children()):
        if isinstance(child, _BatchNorm):
            if last is not None and _fits(last, child):
                _fold_norm(last, child)
                module._modules[name] = nn.Identity()
            last = None
        elif isinstance(child, (_ConvNd, nn.Linear)):
            last = child
            _fold_norms(child)
        else:
            _fold_norms(child)
            # mmaction2's Conv2plus1d, a convolution in two parts.
            last = getattr(child, 'conv_t', None)


def _fits(layer: nn.Module, norm: _BatchNorm) -> bool:
    transposed = isinstance(layer, _ConvTransposeNd)
    statistics = norm.running_mean is not None
    return (
        statistics
        and norm.affine
        and not transposed
        and len(layer.weight) == norm.num_features
    )


def _fold_norm(layer: nn.Module, norm: _BatchNorm) -> None:
    linear = isinstance(layer, nn.Linear)
    fuse = fuse_linear_bn_weights if linear else fuse_conv_bn_weights
    layer.weight, layer.bias = fuse(
        layer.weight,
        layer.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )

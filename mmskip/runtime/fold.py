"""``fold``: a model as it should run when it is only used."""

from torch import nn

from mmskip.layers import (
    DynamicConvMixin,
    PlanarConv3d,
    PlanarMaxPool3d,
    is_planar_conv,
    is_planar_pool,
)

from .activations import fold_activations, simplify_activation
from .folding import fold_batch_norms


def fold(model: nn.Module) -> nn.Module:
    """Prepare a model for inference, in place; it computes the same.

    - A batch norm goes into the convolution or linear layer before it, see
      :func:`mmskip.runtime.fold_batch_norms`.
    - A ReLU or SiLU becomes a part of the Skip-Convolution before it, see
      :func:`mmskip.runtime.fold_activations`.
    - Convolutions and maxima of clips that look along one plane run as those
      of images.

    There is no way back: ``mmskip.revert`` refuses a layer with an
    activation. Fold before ``compile_stream``.

    Args:
        model: Any model in eval mode, converted or not.

    Returns:
        The model.

    Raises:
        ValueError: A batch norm is in training mode.
    """
    fold_batch_norms(model)
    for module in model.modules():
        if is_planar_conv(module):
            module.__class__ = PlanarConv3d
        elif is_planar_pool(module):
            module.__class__ = PlanarMaxPool3d
        elif isinstance(module, DynamicConvMixin):
            module.planar = True
        else:
            simplify_activation(module)
    fold_activations(model)
    return model

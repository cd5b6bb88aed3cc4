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
from .fold_report import FoldReport
from .folding import fold_batch_norms


def fold(model: nn.Module) -> FoldReport:
    """Prepare a model for inference, in place; it computes the same.

    - A batch norm goes into the convolution or linear layer that it reads,
      see :func:`mmskip.runtime.fold_batch_norms`.
    - A ReLU or SiLU becomes a part of the Skip-Convolution that it reads,
      see :func:`mmskip.runtime.fold_activations`.
    - Convolutions and maxima of clips that look along one plane run as those
      of images.

    There is no way back: ``mmskip.revert`` refuses a layer with an
    activation. Fold before ``propagate_changes``.

    Args:
        model: Any model in eval mode, converted or not.

    Returns:
        What was folded, and why the rest stays; it can be printed.

    Raises:
        ValueError: A batch norm is in training mode.
    """
    report = FoldReport()
    report.norms, left_norms = fold_batch_norms(model)
    for name, module in model.named_modules():
        if isinstance(module, DynamicConvMixin):
            module.planar = True
        elif is_planar_conv(module):
            module.__class__ = PlanarConv3d
            report.planar.append(name)
        elif is_planar_pool(module):
            module.__class__ = PlanarMaxPool3d
            report.planar.append(name)
        else:
            simplify_activation(module)
    report.activations, left_activations = fold_activations(model)
    report.left = left_norms | left_activations
    return report

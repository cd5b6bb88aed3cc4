"""Make activations a part of the Skip-Convolutions before them."""

from torch import nn

from mmskip.layers import SkipConvMixin

from .dataflow import find_readers
from .folding import replace

try:
    from mmcv.cnn.bricks import Swish
except ImportError:  # mmcv is optional: torch and mmengine suffice
    Swish = None

#: Exact classes: others may do more.
NAMES = {nn.ReLU: 'relu', nn.SiLU: 'silu'}


def simplify_activation(module: nn.Module) -> None:
    """Let mmcv's Swish, in place, do in one pass what it does in two."""
    if type(module) is Swish:
        module.__class__ = nn.SiLU
        module.inplace = False


def fold_activations(model: nn.Module) -> tuple[list[str], dict[str, str]]:
    """Make each ReLU or SiLU a part of the converted layer before it.

    In place. The layer then returns activated outputs, in the pass that
    copies them out of its memory, where they stay as they were: gates fire
    as before. There is no way back.

    An activation belongs to converted layers if, by the forwards of the
    model, it reads nothing else and nothing else reads that, see
    :func:`mmskip.runtime.find_readers`. One that a block calls in several
    places (that of ResNet and HRNet) stays.

    Args:
        model: Any model in eval mode.

    Returns:
        Names of the layers that changed, and why each other activation
        stays.
    """
    if not any(map(_takes_activation, model.modules())):
        return [], {}
    found = find_readers(model, _takes_activation, lambda m: type(m) in NAMES)
    changed = set()
    for activation, layers in found.layers.items():
        for layer in layers:
            layer.activation = NAMES[type(activation)]
        changed.update(layers)
        replace(model, found.names[activation], nn.Identity())
    return found.describe(changed, found.left)


def _takes_activation(module: nn.Module) -> bool:
    return isinstance(module, SkipConvMixin) and module.activation is None

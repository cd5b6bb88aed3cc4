"""Make activations a part of the Skip-Convolutions before them."""

import itertools
from collections import Counter
from collections.abc import Iterator

from torch import nn

from mmskip.layers import SkipConvMixin

try:
    from mmcv.cnn import ConvModule
    from mmcv.cnn.bricks import Swish
except ImportError:  # mmcv is optional: torch and mmengine suffice
    ConvModule = Swish = None

#: Exact classes: others may do more.
NAMES = {nn.ReLU: 'relu', nn.SiLU: 'silu'}
Named = tuple[str, nn.Module]


def simplify_activation(module: nn.Module) -> None:
    """Let mmcv's Swish, in place, do in one pass what it does in two."""
    if type(module) is Swish:
        module.__class__ = nn.SiLU
        module.inplace = False


def fold_activations(model: nn.Module) -> list[str]:
    """Make each ReLU or SiLU a part of the converted layer before it.

    In place. The layer then returns activated outputs, in the pass that
    copies them out of its memory, where they stay as they were: gates fire
    as before. There is no way back.

    Only ``torch.nn.Sequential`` and mmcv's ``ConvModule`` tell what runs
    behind what; an activation that a block calls in its forward (those of
    ResNet and HRNet) stays. It stays, too, if the layer is shared, or if
    the activation has hooks.

    Args:
        model: Any model in eval mode.

    Returns:
        Names of the layers that changed.
    """
    modules = list(model.named_modules(remove_duplicate=False))
    uses = Counter(module for _, module in modules)
    folded = []
    for parent_name, parent in modules:
        for (name, layer), (act_name, act) in _neighbours(parent):
            if (
                isinstance(layer, SkipConvMixin)
                and uses[layer] == 1
                and type(act) in NAMES
                and not (act._forward_hooks or act._forward_pre_hooks)
            ):
                layer.activation = NAMES[type(act)]
                setattr(parent, act_name, nn.Identity())
                folded.append(f'{parent_name}.{name}'.lstrip('.'))
    return folded


def _neighbours(parent: nn.Module) -> Iterator[tuple[Named, Named]]:
    """Children of which the second gets what the first one returns."""
    forward = parent.__dict__.get('forward', type(parent).forward)
    children = []
    if forward is nn.Sequential.forward:
        children = parent._modules.items()
    elif ConvModule is not None and forward is ConvModule.forward:
        norm = parent.norm_name if parent.with_norm else None
        names = dict(conv='conv', norm=norm, act='activate')
        children = [
            (names[kind], parent._modules[names[kind]])
            for kind in parent.order
            if names[kind] in parent._modules
        ]
    return itertools.pairwise(
        (name, child)
        for name, child in children
        if not isinstance(child, nn.Identity)
    )

"""Forwards that take the place of a module's own inside a stream."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from mmskip.layers import SkipConvMixin

#: Modules that do the same in training mode; folding leaves new ones.
_MODELESS = (SkipConvMixin, nn.Identity, nn.ReLU, nn.SiLU)


class StreamForward:
    """Runs a module its own way, where it can, and else as it is.

    Args:
        module: Whose forward it is.
    """

    #: ``mmskip.revert`` gives the module its own forward back.
    ends_with_revert = True

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.layers = skip_convs(module)
        self._graphs: dict[Any, Any] = {}
        gates = {part for layer in self.layers for part in layer.modules()}
        self._moded = [
            part
            for part in module.modules()
            if part not in gates and not isinstance(part, _MODELESS)
        ]

    def trains(self) -> bool:
        """Whether a part is in training mode, and does something else."""
        return any(part.training for part in self._moded)

    def run_plain(self, *args: Any, **kwargs: Any) -> Any:
        """Run the forward of its class."""
        return type(self.module).forward(self.module, *args, **kwargs)

    def __getstate__(self) -> dict:
        return {**self.__dict__, '_graphs': {}}


def skip_convs(module: nn.Module) -> list[SkipConvMixin]:
    """The Skip-Convolutions of a module, in order of definition."""
    return [m for m in module.modules() if isinstance(m, SkipConvMixin)]


def check_convertible(module: nn.Module) -> None:
    """Refuse what can have no forward of another kind.

    Args:
        module: In which there should be Skip-Convolutions.

    Raises:
        ValueError: Nothing is converted, or a forward is replaced already.
    """
    if not skip_convs(module):
        raise ValueError(
            f'expected a module with Skip-Convolutions, got '
            f'{type(module).__name__} without any; call mmskip.convert() '
            'on it first'
        )
    for name, part in module.named_modules():
        if 'forward' in part.__dict__:
            raise ValueError(
                f'the forward of {name or type(module).__name__} is replaced '
                'on the instance (by propagate_changes() already?); call '
                'mmskip.revert() first, or take another part'
            )


def tensors_of(tree: Any) -> list[Tensor]:
    """The tensors in lists, tuples and dicts, in their order."""
    return [
        leaf for leaf in _pytree.tree_leaves(tree) if torch.is_tensor(leaf)
    ]

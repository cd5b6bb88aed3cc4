"""Turn convolutions into ones that learn which channels they need."""

from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from mmskip.layers import L0_CLASSES
from mmskip.registry import MODELS


@MODELS.register_module()
class L0Conversion:
    """Prune output channels by L0 regularisation (channel pruning).

    The baseline L0 of Skip-Convolutions (CVPR 2021), section 4.2, after C.
    Louizos, M. Welling, D. P. Kingma, ICLR 2018. Gates learn with the model
    under ``efficiency_loss=dict(type='mmskip.L0Loss', ...)``; what differs
    from the paper is told in :class:`mmskip.layers.L0ConvMixin`.

    Leave a layer out (``exclude``) whose channels all are results, such as
    the last one: a closed channel is the same everywhere.

    Args:
        start: Initial log alpha of the gates; 2.5 leaves a trained model as
            it is in inference.

    Raises:
        ValueError: ``start`` is not a finite number.
    """

    def __init__(self, start: float = 2.5) -> None:
        self.start = start
        self._l0_class = {kind.dense_class: kind for kind in L0_CLASSES}

    def concerns(self, module: nn.Module) -> bool:
        """Whether a module is of a kind that this conversion is about."""
        return isinstance(module, (_ConvNd, nn.Linear))

    def refusal(self, name: str, module: nn.Module) -> str | None:
        """Why a layer stays as it is, None if it can be converted."""
        if isinstance(module, nn.Linear):
            return 'not a convolution'
        if isinstance(module, _ConvTransposeNd):
            return 'transposed convolution'
        if 'forward' in module.__dict__:
            return 'its forward is replaced on the instance'
        if type(module) not in self._l0_class:
            return (
                f'{type(module).__name__} is not a class known to only '
                'convolve, with a fixed padding'
            )
        if module.groups > 1:
            return 'grouped: without some channels its groups are unequal'
        return None

    def apply(self, name: str, module: nn.Module) -> None:
        """Convert one layer in place; parameters, hooks and name stay."""
        module.__class__ = self._l0_class[type(module)]
        module.set_l0(self.start)
        module.gate.train(module.training)

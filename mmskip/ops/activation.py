"""Activations that a convolution may apply to what it returns."""

from torch import Tensor
from torch.nn import functional as F


def activate_(output: Tensor, name: str | None) -> Tensor:
    """Apply an activation in place.

    Args:
        output: Any shape.
        name: ``relu``, ``silu``, or None, which leaves it as it is.
    """
    if name is None:
        return output
    function = F.relu if name == 'relu' else F.silu
    return function(output, inplace=True)

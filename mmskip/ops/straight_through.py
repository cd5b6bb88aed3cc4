"""Binary decisions with gradients.

Skip-Convolutions (CVPR 2021), Eq. 8; the relaxation is the binary Concrete
distribution of Maddison et al. and Jang et al. (ICLR 2017).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


class _StraightThrough(Function):
    """Hard decision forward, gradient of the soft one backward."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, noise: Tensor, temperature: float
    ) -> Tensor:
        soft = torch.sigmoid((logits + noise) / temperature)
        ctx.save_for_backward(soft)
        ctx.temperature = temperature
        return (soft > 0.5).to(soft.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (soft,) = ctx.saved_tensors
        return grad * soft * (1 - soft) / ctx.temperature, None, None


def sample_gate(logits: Tensor, temperature: float) -> Tensor:
    """Draw 1 with probability ``sigmoid(logits)``, else 0.

    Logistic noise, the difference of two Gumbel samples, keeps the draw
    unbiased (a single Gumbel sample, as in the official code, does not).
    With ``soft = sigmoid((logits + noise) / temperature)`` the gradient with
    respect to the logits is ``soft * (1 - soft) / temperature``.

    Args:
        logits: Any shape.
        temperature: Of the relaxation; the probabilities do not depend on
            it.

    Returns:
        Exactly 0 or 1, of the shape and dtype of ``logits``.
    """
    limits = torch.finfo(logits.dtype)
    uniform = torch.rand_like(logits).clamp(limits.tiny, 1 - limits.eps)
    noise = uniform.log() - torch.log1p(-uniform)
    return _StraightThrough.apply(logits, noise, temperature)

"""Binary decisions with gradients.

Skip-Convolutions (CVPR 2021), Eq. 8; the relaxation is the binary Concrete
distribution of Maddison et al. and Jang et al. (ICLR 2017). VA-RED^2 (B. Pan,
MIT, 2023), Eq. 3.4.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


def sample_gate(logits: Tensor, temperature: float) -> Tensor:
    """Draw 1 with probability ``sigmoid(logits)``, else 0.

    Logistic noise, the difference of two Gumbel samples, keeps the draw
    unbiased (a single Gumbel sample, as in the official code, does not).
    With ``soft = sigmoid((logits + noise) / temperature)`` the gradient with
    respect to the logits is ``soft * (1 - soft) / temperature``.

    Args:
        logits: Any shape.
        temperature: Temperature of the relaxation; the probabilities do not
            depend on it.

    Returns:
        Exactly 0 or 1, of the shape and dtype of ``logits``.
    """
    limits = torch.finfo(logits.dtype)
    uniform = torch.rand_like(logits).clamp(limits.tiny, 1 - limits.eps)
    noise = uniform.log() - torch.log1p(-uniform)
    return _StraightThrough.apply(logits, noise, temperature)


def straight_through(value: Tensor, surrogate: Tensor) -> Tensor:
    """Return ``value``, with the gradient of ``surrogate``."""
    return value.detach() + (surrogate - surrogate.detach())


def open_gate(logits: Tensor, leak: float = 0.0) -> Tensor:
    """Compute the output activation of VA-RED^2's gate, ``max(tanh(x), 0)``.

    Ours: with ``leak`` a closed option (0, where the true gradient is 0)
    gets that share of a gradient which would open it, and none that would
    close it further.

    Args:
        logits: Any shape.
        leak: 0 gives the exact gradient.

    Returns:
        In [0, 1), of the shape of ``logits``.
    """
    if not (torch.is_grad_enabled() and logits.requires_grad):
        return logits.tanh().clamp(min=0)
    return _OpenGate.apply(logits, leak)


class _StraightThrough(Function):
    """Gives the hard decision forward, the gradient of the soft one back."""

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


class _OpenGate(Function):
    """Computes ``max(tanh(x), 0)``, and lets closed gates open again."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, leak: float) -> Tensor:
        activated = logits.tanh()
        ctx.save_for_backward(activated)
        ctx.leak = leak
        return activated.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (activated,) = ctx.saved_tensors
        # Descent along a negative gradient opens.
        closed = grad.clamp(max=0) * ctx.leak
        grad = torch.where(activated > 0, grad, closed)
        return grad * (1 - activated.square()), None

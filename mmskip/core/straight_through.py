"""Binary decisions with gradients.

Skip-Convolutions (CVPR 2021), Eq. 8; the relaxation is the binary Concrete
distribution of Maddison et al. and Jang et al. (ICLR 2017). VA-RED^2 (B. Pan,
MIT, 2023), Eq. 3.4.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

_sigmoid_backward = torch.ops.aten.sigmoid_backward.default


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
    return draw_gate(logits, temperature)[0]


def draw_gate(logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Draw as :func:`sample_gate`, and tell the probabilities.

    Args:
        logits: Any shape.
        temperature: Temperature of the relaxation.

    Returns:
        The decisions, and ``sigmoid(logits)``; both have gradients.
    """
    soft = relax_gate(logits.detach(), temperature)
    return _StraightThrough.apply(logits, soft, temperature)


def relax_gate(logits: Tensor, temperature: float) -> Tensor:
    """Draw relaxed decisions; those above 1/2 are 1, the others 0.

    Args:
        logits: Any shape, without gradients.
        temperature: Temperature of the relaxation.

    Returns:
        Between 0 and 1, of the shape and dtype of ``logits``.
    """
    limits = torch.finfo(logits.dtype)
    uniform = torch.rand_like(logits).clamp_(limits.tiny, 1 - limits.eps)
    return uniform.logit_().add_(logits).div_(temperature).sigmoid_()


def gate_gradient(
    soft: Tensor,
    probability: Tensor,
    temperature: float,
    grad: Tensor,
    grad_probability: Tensor,
) -> Tensor:
    """Compute the gradient of the logits of :func:`draw_gate`.

    Args:
        soft: What :func:`relax_gate` drew.
        probability: The sigmoid of the logits.
        temperature: Temperature of the relaxation.
        grad: Gradient of the decisions.
        grad_probability: That of the probability.
    """
    total = _sigmoid_backward(grad_probability, probability)
    return total.add_(_sigmoid_backward(grad, soft), alpha=1 / temperature)


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
        ctx: Any, logits: Tensor, soft: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        probability = logits.sigmoid()
        ctx.save_for_backward(soft, probability)
        ctx.temperature = temperature
        return soft.round(), probability

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor, grad_probability: Tensor
    ) -> tuple[Tensor, None, None]:
        soft, probability = ctx.saved_tensors
        grad = gate_gradient(
            soft, probability, ctx.temperature, grad, grad_probability
        )
        return grad, None, None


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

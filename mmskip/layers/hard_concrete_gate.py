"""Gates that close for good, for L0 regularisation.

C. Louizos, M. Welling, D. P. Kingma, "Learning sparse neural networks
through L0 regularization", ICLR 2018.
"""

from math import log

import torch
from torch import Tensor, nn

TEMPERATURE = 2 / 3
LOW, HIGH = -0.1, 1.1


class HardConcreteGate(nn.Module):
    """One hard-concrete gate per channel (Eq. 10 to 13).

    beta, gamma and zeta are those of the paper's experiments.

    Args:
        channels: Number of gates.
        start: Initial log alpha. Ours: the paper begins with a layer's rate
            of dropout, here the default of 2.5 leaves a trained model as it
            is in inference and closes 1.6 % of its channels in training.
        like: A tensor whose device and dtype the gates get.
    """

    def __init__(
        self, channels: int, start: float, like: Tensor | None = None
    ) -> None:
        super().__init__()
        values = torch.full((channels,), float(start))
        if like is not None:
            values = values.to(like)
        self.log_alpha = nn.Parameter(values)

    def forward(self) -> Tensor:
        """Draw gates in training, else give the deterministic ones (Eq. 13).

        Returns:
            (C,), from 0 to 1, both included.
        """
        if not self.training:
            return _stretch(self.log_alpha.sigmoid())
        limits = torch.finfo(self.log_alpha.dtype)
        uniform = torch.rand_like(self.log_alpha)
        uniform = uniform.clamp(limits.tiny, 1 - limits.eps)
        noise = uniform.log() - torch.log1p(-uniform)
        return _stretch(((noise + self.log_alpha) / TEMPERATURE).sigmoid())

    def open_probability(self) -> Tensor:
        """Probability that a gate is not 0 in training (Eq. 12), (C,)."""
        shift = TEMPERATURE * log(-LOW / HIGH)
        return (self.log_alpha - shift).sigmoid()


def _stretch(soft: Tensor) -> Tensor:
    """From (0, 1) to beyond, and cut off (Eq. 11)."""
    return (soft * (HIGH - LOW) + LOW).clamp(0, 1)

"""What the gates of a layer let through in a training clip."""

from typing import NamedTuple

import torch
from torch import Tensor


class GateCost(NamedTuple):
    """MACs of one call of a layer on the frames after the reference frame.

    Attributes:
        dense: With all gates open.
        expected: Share of ``dense`` by the gates' probabilities, a scalar
            with gradients.
        hard: Share of ``dense`` by the decisions that were drawn, a scalar.
    """

    dense: int
    expected: Tensor
    hard: Tensor

    @classmethod
    def of(cls, dense: int, drawn: list[tuple[Tensor, Tensor]]) -> 'GateCost':
        """Average the masks and probabilities of a clip's frames."""
        masks, probabilities = zip(*drawn, strict=True)
        return cls(
            dense,
            torch.stack([p.mean() for p in probabilities]).mean(),
            torch.stack([m.detach().mean() for m in masks]).mean(),
        )

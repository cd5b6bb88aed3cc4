"""The loss that closes channels for good."""

from torch import Tensor, nn

from mmskip.layers import GateCost
from mmskip.registry import MODELS


@MODELS.register_module()
class L0Loss(nn.Module):
    """Expected MACs of layers under L0 regularisation.

    Louizos et al. (ICLR 2018), Eq. 12: the sum of the probabilities that
    gates are open, each times what it costs. Ours: the cost is MACs, not
    parameters, and the sum is divided by the MACs with all gates open, so
    that one weight suits all models.

    Args:
        weight: Of the loss, lambda.

    Raises:
        ValueError: ``weight`` is negative.
    """

    of_channels = True

    def __init__(self, weight: float) -> None:
        super().__init__()
        if not weight >= 0:
            raise ValueError(f'expected weight >= 0, got {weight!r}')
        self.weight = float(weight)

    def forward(self, costs: list[GateCost]) -> dict[str, Tensor]:
        """Turn costs into entries for a dict of losses.

        Args:
            costs: Of every call of a layer with gates in one forward.

        Returns:
            ``loss_l0``, to be summed; ``l0_cost_expected`` and
            ``l0_cost_hard``, shares between 0 and 1, to be logged.
        """
        dense = sum(cost.dense for cost in costs)
        expected = sum(cost.dense / dense * cost.expected for cost in costs)
        hard = sum(cost.dense / dense * cost.hard for cost in costs)
        return dict(
            loss_l0=self.weight * expected,
            l0_cost_expected=expected.detach(),
            l0_cost_hard=hard,
        )

    def extra_repr(self) -> str:
        return f'weight={self.weight}'

"""The loss that closes channels for good."""

from typing import Any

from torch import Tensor, nn

from mmskip.layers import GateCost, L0ConvMixin, follow_mode
from mmskip.registry import MODELS
from mmskip.runtime import InputError


class _Collector:
    """Hooks that collect costs in one forward."""

    def __init__(self, loss: nn.Module) -> None:
        self.loss = loss

    def begin(self, model: nn.Module, inputs: tuple) -> None:
        costs: list[GateCost] | None = [] if model.training else None
        for layer in _layers(model):
            layer._costs = costs
            follow_mode(layer, model.training)

    def end(self, model: nn.Module, inputs: tuple, output: Any) -> dict | None:
        layers = _layers(model)
        costs = layers[0]._costs
        for layer in layers:
            layer._costs = None
        if not model.training or not isinstance(output, dict):
            return None
        if not costs:
            raise InputError(
                'expected an L0-regularised convolution to run in training, '
                "got none: the model's forward called none of its layers"
            )
        return {**output, **self.loss(costs)}


def _layers(model: nn.Module) -> list[L0ConvMixin]:
    return [m for m in model.modules() if isinstance(m, L0ConvMixin)]


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

    def __init__(self, weight: float) -> None:
        super().__init__()
        if not weight >= 0:
            raise ValueError(f'expected weight >= 0, got {weight!r}')
        self.weight = float(weight)

    def attach(self, model: nn.Module) -> None:
        """Let a model return this loss beside its own ones.

        Args:
            model: A model with L0-regularised convolutions whose forward
                returns a dict of losses in training.

        Raises:
            InputError: The model has no such layer.
        """
        if not _layers(model):
            raise InputError(
                'expected L0-regularised convolutions for '
                f'{type(self).__name__}, got {type(model).__name__} without '
                "any; add dict(type='mmskip.L0Conversion') to conversions"
            )
        collector = _Collector(self)
        model.register_forward_pre_hook(collector.begin)
        model.register_forward_hook(collector.end)

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

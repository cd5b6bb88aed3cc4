"""The loss that makes gates close."""

from typing import Any

from torch import Tensor, nn

from mmskip.layers import GateCost, SelfCounting
from mmskip.registry import MODELS
from mmskip.runtime import InputError


class _AddLoss:
    """A forward hook that adds entries to the losses a model returns.

    It counts on the costs that ``clip`` has collected in this forward.
    """

    def __init__(self, loss: nn.Module) -> None:
        self.loss = loss

    def __call__(
        self, model: nn.Module, inputs: tuple, output: Any
    ) -> dict | None:
        if not model.training or not isinstance(output, dict):
            return None
        layers = (m for m in model.modules() if isinstance(m, SelfCounting))
        binding = next(layers)._binding
        if not getattr(binding, 'costs', None):
            raise InputError(
                'expected clips of at least 2 frames in training, for the '
                'gates to have a cost; add custom_hooks=[dict(type='
                "'mmskip.VideoHook', num_frames=4)] or open mmskip.clip()"
            )
        return {**output, **self.loss(binding.costs)}


@MODELS.register_module()
class GateCostLoss(nn.Module):
    """Expected MACs of the frames after the reference frame (Eq. 9).

    Skip-Convolutions (CVPR 2021): the mean of each layer's gates, weighted
    by its MACs. Divided by the MACs with all gates open, so that one weight
    suits all models (the paper divides by a constant that is lost).

    Args:
        beta: Weight of the loss.

    Raises:
        ValueError: ``beta`` is negative.
    """

    def __init__(self, beta: float) -> None:
        super().__init__()
        if not beta >= 0:
            raise ValueError(f'expected beta >= 0, got {beta!r}')
        self.beta = beta

    def attach(self, model: nn.Module) -> None:
        """Let a converted model return this loss beside its own ones.

        Args:
            model: A model whose forward returns a dict of losses in
                training, as all models of the hosts do.
        """
        model.register_forward_hook(_AddLoss(self))

    def forward(self, costs: list[GateCost]) -> dict[str, Tensor]:
        """Turn costs into entries for a dict of losses.

        Args:
            costs: Of every call of a converted layer in one forward.

        Returns:
            ``loss_gate``, to be summed; ``gate_cost_expected`` and
            ``gate_cost_hard``, shares between 0 and 1, to be logged.
        """
        dense = sum(cost.dense for cost in costs)
        expected = sum(cost.dense / dense * cost.expected for cost in costs)
        hard = sum(cost.dense / dense * cost.hard for cost in costs)
        return dict(
            loss_gate=self.beta * expected,
            gate_cost_expected=expected.detach(),
            gate_cost_hard=hard,
        )

    def extra_repr(self) -> str:
        return f'beta={self.beta}'

"""The loss that makes gates close, Eq. 9 of Skip-Convolutions (CVPR 2021).

:class:`GateCostLoss` reads what the gates of a clip cost. Where activations
are computed anew in the backward, :class:`LateCosts` brings the gradient of
the loss to the gates.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.autograd import Function

from mmskip.core import GateCost, SelfCounting
from mmskip.reading import InputError
from mmskip.registry import MODELS

from .layer import SkipConvMixin


@MODELS.register_module()
class GateCostLoss(nn.Module):
    """Penalises the expected MACs after the reference frame (Eq. 9).

    It is the mean of each layer's gates, weighted by its MACs
    (Skip-Convolutions, CVPR 2021), divided by the MACs with all gates open, so
    that one weight suits all models (the paper divides by a constant that is
    lost).

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
            costs: Costs of every call of a converted layer in one forward.

        Returns:
            ``loss_gate``, to be summed; ``gate_cost_expected`` and
            ``gate_cost_hard``, shares between 0 and 1, to be logged.
        """
        expected, hard = GateCost.total(costs)
        return dict(
            loss_gate=self.beta * expected,
            gate_cost_expected=expected.detach(),
            gate_cost_hard=hard,
        )

    def extra_repr(self) -> str:
        return f'beta={self.beta}'


class LateCosts:
    """Gives the loss stand-ins for costs, whose gradients are added later.

    Activation checkpointing (``with_cp=True`` of the hosts) runs a block
    without gradients first, when the loss gets the costs of its gates, and
    again in the backward, when there is a graph from the gates to their costs.
    """

    def __init__(self) -> None:
        self._waiting: dict[SkipConvMixin, list[Tensor]] = {}

    def put_off(self, layer: SkipConvMixin, cost: GateCost) -> GateCost:
        """Give the loss a stand-in for a cost, which takes its gradient.

        Args:
            layer: Layer that was called.
            cost: Cost of that call, which ran without gradients.
        """
        stand_in = cost.expected.detach().clone().requires_grad_()
        self._waiting.setdefault(layer, []).append(stand_in)
        return cost._replace(expected=stand_in)

    def settle(
        self, layer: SkipConvMixin, output: Tensor, cost: GateCost
    ) -> Tensor:
        """Give an output whose backward hands the gradient on to the cost.

        Args:
            layer: Layer that is called again.
            output: Output of that call.
            cost: Cost of that call, with gradients.
        """
        waiting = self._waiting.get(layer)
        if not waiting:  # the loss had the cost itself
            return output
        # A layer may be called several times, with different costs.
        away = [(s - cost.expected.detach()).abs().item() for s in waiting]
        index = min(
            range(len(waiting)),
            key=lambda i: (waiting[i].grad is None, away[i]),
        )
        stand_in = waiting.pop(index)
        stand_in.register_hook(_refuse_late_gradient)
        return _AddGradient.apply(output, cost.expected, [stand_in])

    def close(self) -> None:
        """Let layers that are still to be run again refuse to."""
        for layer, waiting in self._waiting.items():
            if waiting:
                layer.left_clip = True

    def check(self, names: Mapping[SkipConvMixin, str]) -> None:
        """Refuse gradients that reached no gate.

        Args:
            names: Names of the layers.

        Raises:
            RuntimeError: A layer was not run again in the backward.
        """
        lost = [
            names[layer]
            for layer, waiting in self._waiting.items()
            if any(stand_in.grad is not None for stand_in in waiting)
        ]
        if lost:
            raise RuntimeError(
                'expected layers that run without gradients in training to '
                'run again in the backward (activation checkpointing), got '
                f'{len(lost)} that did not ({", ".join(lost[:3])}'
                f'{", ..." if len(lost) > 3 else ""}); '
                'their gates learn nothing. Exclude them from the conversion '
                'if the model runs them under torch.no_grad(), or call '
                'backward() on the sum of all losses'
            )


class _AddLoss:
    """Adds entries to the losses that a model returns, as a forward hook.

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


class _AddGradient(Function):
    """Passes an output on, and to its cost the gradient of a stand-in."""

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, expected: Tensor, stand_in: list[Tensor]
    ) -> Tensor:
        (ctx.stand_in,) = stand_in
        return output.clone()  # the hosts write into outputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        return grad, ctx.stand_in.grad, None


def _refuse_late_gradient(_: Tensor) -> None:
    raise RuntimeError(
        'expected the loss of the gates in the same backward() as the other '
        'losses, got it later: with activation checkpointing (with_cp=True) '
        'gates get the gradient while their block is computed anew; add the '
        'losses up, or set with_cp=False'
    )

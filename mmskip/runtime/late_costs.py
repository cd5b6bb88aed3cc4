"""What gates cost where activations are computed anew in the backward.

Activation checkpointing (``with_cp=True`` of the hosts) runs a block without
gradients first, when the loss gets the costs of its gates, and again in the
backward, when there is a graph from the gates to their costs.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.autograd import Function

from mmskip.layers import GateCost, SkipConvMixin


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


class LateCosts:
    """Gives the loss stand-ins for costs, whose gradients are added later."""

    def __init__(self) -> None:
        self._waiting: dict[SkipConvMixin, list[Tensor]] = {}

    def put_off(self, layer: SkipConvMixin, cost: GateCost) -> GateCost:
        """The same cost, of which the loss may ask a gradient.

        Args:
            layer: Whose gate it is.
            cost: Of a call without gradients.
        """
        stand_in = cost.expected.detach().clone().requires_grad_()
        self._waiting.setdefault(layer, []).append(stand_in)
        return cost._replace(expected=stand_in)

    def settle(
        self, layer: SkipConvMixin, output: Tensor, cost: GateCost
    ) -> Tensor:
        """An output in whose backward the cost gets its gradient.

        Args:
            layer: Whose gate it is.
            output: Of the call that is made again.
            cost: Of that call, with gradients.
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
            names: Of the layers.

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

"""Convolutions that learn which of their output channels are needed."""

import torch
from torch import Tensor, nn

from mmskip.ops import convolve

from .conv_geometry import conv_geometry
from .gate_cost import GateCost
from .hard_concrete_gate import HardConcreteGate
from .self_counting import Converted, CountedWhole, dense_macs


class L0ConvMixin(CountedWhole, Converted):
    """The behaviour of an L0-regularised convolution, over a torch one.

    Louizos et al. (ICLR 2018), with one gate per output channel, which
    multiplies its weights: drawn once per batch in training, deterministic
    in eval mode. Then channels whose gate is 0 are not computed; they are
    their bias everywhere (0 without one).

    Deviations: gates are not combined with other norms (section 2.4), that
    is with weight decay. The layer that reads closed channels still reads
    them: its MACs count in full.
    """

    gate: HardConcreteGate
    # Set in a forward that collects; copies leave it behind.
    _costs: list[GateCost] | None = None

    def set_l0(self, start: float) -> None:
        """Give a plain convolution its gates.

        Args:
            start: See :class:`HardConcreteGate`.
        """
        self.gate = HardConcreteGate(self.out_channels, start, self.weight)

    def revert(self) -> None:
        """Give a plain convolution with the gates in its weights back."""
        with torch.no_grad():
            self.weight.copy_(gated(self.weight, self.gate.eval()()))
        del self.gate
        self.__dict__.pop('_costs', None)
        self.__class__ = self.dense_class

    def forward(self, input: Tensor) -> Tensor:
        """Compute all channels in training, the open ones in eval mode."""
        if input.dim() < self.weight.dim():
            return self(input.unsqueeze(0)).squeeze(0)
        gates = self.gate()
        if self.training:
            return self._train(input, gates)
        kept = gates > 0
        if kept.all():
            output = self._convolve(input, gates)
        else:
            output = self._convolve_kept(input, gates, kept)
        if self._ledger is not None:
            dense = dense_macs(self, output.shape)
            share = dense // self.out_channels
            self._ledger.record(self, dense, share * kept.sum())
        return output

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, L0 gates'

    def __getstate__(self) -> dict:
        state = super().__getstate__()
        state.pop('_costs', None)
        return state

    def _train(self, x: Tensor, gates: Tensor) -> Tensor:
        output = self._convolve(x, gates)
        dense = dense_macs(self, output.shape)
        if self._costs is not None:
            # Also where activation checkpointing has no gradients yet.
            with torch.enable_grad():
                expected = self.gate.open_probability().mean()
            hard = (gates.detach() > 0).to(gates.dtype).mean()
            self._costs.append(GateCost(dense, expected, hard))
        if self._ledger is not None:
            self._ledger.record(self, dense, dense)
        return output

    def _convolve(self, x: Tensor, gates: Tensor) -> Tensor:
        weight = gated(self.weight, gates)
        return convolve(x, weight, self.bias, conv_geometry(self))

    def _convolve_kept(self, x: Tensor, gates: Tensor, kept: Tensor) -> Tensor:
        """Compute some of the channels, and set the others to their bias."""
        geometry = conv_geometry(self)
        shape = convolve(
            x.to('meta'), self.weight.to('meta', x.dtype), None, geometry
        ).shape
        bias = self.bias
        if bias is None:
            output = x.new_zeros(shape)
        else:
            wide = bias.to(x.dtype).view(-1, *[1] * (x.dim() - 2))
            output = wide.expand(shape).clone()
        if not kept.any():
            return output
        weight = gated(self.weight[kept], gates[kept])
        bias = bias if bias is None else bias[kept]
        part = convolve(x, weight, bias, geometry)
        output = output.to(part.dtype)  # that of autocast
        output[:, kept] = part
        return output


class L0Conv2d(L0ConvMixin, nn.Conv2d):
    """``torch.nn.Conv2d`` with L0 regularisation of its channels."""

    dense_class = nn.Conv2d


class L0Conv3d(L0ConvMixin, nn.Conv3d):
    """``torch.nn.Conv3d`` with L0 regularisation of its channels."""

    dense_class = nn.Conv3d


def gated(weight: Tensor, gates: Tensor) -> Tensor:
    """Weights (C_out, ...) times gates (C_out,)."""
    return weight * gates.view(-1, *[1] * (weight.dim() - 1))

"""Convolutions that learn by L0 regularisation which channels to keep.

C. Louizos, M. Welling, D. P. Kingma, "Learning sparse neural networks
through L0 regularization", ICLR 2018; equations are numbered as there. The
file holds the gates, which close for good, the layers that have them, their
conversion, and the loss that closes them.
"""

from math import log
from typing import Any

import torch
from torch import Tensor, nn

from mmskip.core import (
    ConvConversion,
    Converted,
    CostCollector,
    CountedWhole,
    GateCost,
    dense_macs,
    refuse_unknown,
)
from mmskip.native import convolve
from mmskip.native.geometry import conv_geometry
from mmskip.reading import InputError
from mmskip.registry import MODELS

TEMPERATURE = 2 / 3
LOW, HIGH = -0.1, 1.1


class HardConcreteGate(nn.Module):
    """Opens or closes channels by hard-concrete gates (Eq. 10 to 13).

    There is one gate per channel. beta, gamma and zeta are those of the
    paper's experiments.

    Args:
        channels: Number of gates.
        start: Initial log alpha. (Ours: the paper begins with a layer's rate
            of dropout. :class:`L0Conversion` begins with 2.5, which leaves a
            trained model as it is in inference and closes 1.6 % of its
            channels in training.)
        like: Tensor whose device and dtype the gates get.
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
        """Compute how likely gates are not 0 in training (Eq. 12), (C,)."""
        shift = TEMPERATURE * log(-LOW / HIGH)
        return (self.log_alpha - shift).sigmoid()


class L0ConvMixin(CountedWhole, Converted):
    """Makes a torch convolution learn which output channels it needs.

    It follows Louizos et al. (ICLR 2018), with one gate per output channel,
    which multiplies its weights: drawn once per batch in training,
    deterministic in eval mode. Then channels whose gate is 0 are not
    computed; they are their bias everywhere (0 without one).

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
            start: Initial log alpha of the gates.
        """
        self.gate = HardConcreteGate(self.out_channels, start, self.weight)

    def revert(self) -> None:
        """Give a plain convolution with the gates in its weights back."""
        with torch.no_grad():
            self.weight.copy_(_gated(self.weight, self.gate.eval()()))
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
        weight = _gated(self.weight, gates)
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
        weight = _gated(self.weight[kept], gates[kept])
        bias = bias if bias is None else bias[kept]
        computed = convolve(x, weight, bias, geometry)
        output = output.to(computed.dtype)  # that of autocast
        output[:, kept] = computed
        return output


class L0Conv2d(L0ConvMixin, nn.Conv2d):
    """Prunes channels of a ``torch.nn.Conv2d`` by L0 regularisation."""

    dense_class = nn.Conv2d


class L0Conv3d(L0ConvMixin, nn.Conv3d):
    """Prunes channels of a ``torch.nn.Conv3d`` by L0 regularisation."""

    dense_class = nn.Conv3d


L0_CLASSES = (L0Conv2d, L0Conv3d)
try:
    from mmcv.cnn.bricks import Conv2d as MMCVConv2d
    from mmcv.cnn.bricks import Conv3d as MMCVConv3d
except ImportError:  # mmcv is optional: torch and mmengine suffice
    pass
else:
    # Each names torch's class as a base of its own: mmengine's
    # initialisers match a layer by the names of its direct bases.
    class L0MMCVConv2d(L0ConvMixin, MMCVConv2d, nn.Conv2d):
        """Prunes channels of mmcv's ``Conv2d`` wrapper."""

        dense_class = MMCVConv2d

    class L0MMCVConv3d(L0ConvMixin, MMCVConv3d, nn.Conv3d):
        """Prunes channels of mmcv's ``Conv3d`` wrapper."""

        dense_class = MMCVConv3d

    L0_CLASSES += (L0MMCVConv2d, L0MMCVConv3d)


@MODELS.register_module()
class L0Conversion(ConvConversion):
    """Prunes output channels of convolutions by L0 regularisation.

    It is the baseline L0 of Skip-Convolutions (CVPR 2021), section 4.2, after
    C. Louizos, M. Welling, D. P. Kingma, ICLR 2018. Gates learn with the
    model under ``efficiency_loss=dict(type='mmskip.L0Loss', ...)``;
    :class:`mmskip.compression.L0ConvMixin` lists the deviations from the
    paper.

    Leave a layer out (``exclude``) whose channels all are results, such as
    the last one: a closed channel is the same everywhere.

    Args:
        start: Initial log alpha of the gates; 2.5 leaves a trained model as
            it is in inference.

    Raises:
        ValueError: ``start`` is not a finite number.
    """

    def __init__(self, start: float = 2.5) -> None:
        self.start = start
        self._l0_class = {kind.dense_class: kind for kind in L0_CLASSES}

    def refusal(self, name: str, module: nn.Module) -> str | None:
        """Say why a layer stays as it is, None if it can be converted."""
        reason = refuse_unknown(
            module, self._l0_class, ', with a fixed padding'
        )
        if reason is not None:
            return reason
        if module.groups > 1:
            return 'grouped: without some channels its groups are unequal'
        return None

    def apply(self, name: str, module: nn.Module) -> None:
        """Convert one layer in place; parameters, hooks and name stay."""
        module.__class__ = self._l0_class[type(module)]
        module.set_l0(self.start)
        module.gate.train(module.training)


@MODELS.register_module()
class L0Loss(nn.Module):
    """Penalises the expected MACs of layers under L0 regularisation.

    It is Eq. 12 of Louizos et al. (ICLR 2018): the sum of the probabilities
    that gates are open, each times its cost. Ours: the cost is MACs, not
    parameters, and the sum is divided by the MACs with all gates open, so
    that one weight suits all models.

    Args:
        weight: lambda.

    Raises:
        ValueError: ``weight`` is negative.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        if not weight >= 0:
            raise ValueError(f'expected weight >= 0, got {weight!r}')
        self.weight = float(weight)

    def attach(self, model: nn.Module) -> None:
        """Make a model return this loss beside its own ones.

        Args:
            model: A model with L0-regularised convolutions whose forward
                returns a dict of losses in training.

        Raises:
            InputError: The model has no such layer.
        """
        collector = _Collector(
            self, L0ConvMixin, 'an L0-regularised convolution'
        )
        if not collector.layers(model):
            raise InputError(
                'expected L0-regularised convolutions for '
                f'{type(self).__name__}, got {type(model).__name__} without '
                "any; add dict(type='mmskip.L0Conversion') to conversions"
            )
        model.register_forward_pre_hook(collector.begin)
        model.register_forward_hook(collector.end)

    def forward(self, costs: list[GateCost]) -> dict[str, Tensor]:
        """Turn costs into entries for a dict of losses.

        Args:
            costs: Costs of every call of a layer with gates in one forward.

        Returns:
            ``loss_l0``, to be summed; ``l0_cost_expected`` and
            ``l0_cost_hard``, shares between 0 and 1, to be logged.
        """
        expected, hard = GateCost.total(costs)
        return dict(
            loss_l0=self.weight * expected,
            l0_cost_expected=expected.detach(),
            l0_cost_hard=hard,
        )

    def extra_repr(self) -> str:
        return f'weight={self.weight}'


class _Collector(CostCollector):
    """Adds the loss to the entries that a model returns."""

    def end(self, model: nn.Module, inputs: tuple, output: Any) -> dict | None:
        """Turn what was collected into entries of the losses."""
        costs = self.take(model, output)
        return None if costs is None else {**output, **self.loss(costs)}


def _stretch(soft: Tensor) -> Tensor:
    """Stretch values beyond (0, 1), and cut them off (Eq. 11)."""
    return (soft * (HIGH - LOW) + LOW).clamp(0, 1)


def _gated(weight: Tensor, gates: Tensor) -> Tensor:
    """Multiply weights (C_out, ...) by gates (C_out,)."""
    return weight * gates.view(-1, *[1] * (weight.dim() - 1))

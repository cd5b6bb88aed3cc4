"""The gate of VA-RED^2, which decides how much of a convolution runs.

B. Pan, "Dynamic Neural Network for Efficient Video Recognition", M.S. thesis,
MIT, 2023, section 3.2.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmskip.core import open_gate
from mmskip.native import library as native
from mmskip.native import runs_native
from mmskip.registry import MODELS

Options = tuple[int, ...]


class OptionWeights(NamedTuple):
    """Holds the weights that a gate gives to options, for N samples.

    Attributes:
        time: ``V_t`` (N, S_t), None if the axis is not dynamic.
        channels: ``V_c`` (N, S_c), None if the axis is not dynamic.
    """

    time: Tensor | None
    channels: Tensor | None


class Usage(NamedTuple):
    """Holds the used options of each axis, those with a non-zero weight.

    The first is the largest, which is computed. An axis that is not dynamic
    has (0,).
    """

    time: Options
    channels: Options


@MODELS.register_module()
class SoftModulationGate(nn.Module):
    """Weights the options on each axis by a layer's input (Eq. 3.4).

    It consists of pooling, a fully connected layer, batch norm, tanh, a fully
    connected layer, plus ``beta``, ``max(tanh, 0)``. If all weights of an
    axis are 0, which the thesis leaves open, the smallest option gets the
    weight 1.

    Ours, where the thesis is silent or cannot be followed:

    - The thesis pools over space alone, so that its first layer has C_in * T
      inputs and fits one T only. Here each channel gives its mean over space
      and time and the mean absolute difference of consecutive frames, at
      every position: any T, and the policy can tell static from moving.
    - The printed dimensions of the two layers are swapped.
    - ``beta`` begins such that the weights of an axis sum to 1, ``start`` of
      it on the smaller options: all options live, none is saturated, and
      the scale of the output is that of the plain layer.
    - A closed option gets a share ``leak`` of the gradients that would
      reopen it, see :func:`mmskip.core.open_gate`; the thesis has 0.
    - The policy learns from the features and not they from it: no gradient
      goes from the gate into its input.
    - A batch of one in training is normalised with the running statistics.

    Args:
        hidden_channels: D_h.
        start: Initial weight of all options but the full one, in sum.
        leak: Share of a gradient that reopens a closed option.

    Raises:
        ValueError: An option is out of range.

    Attributes:
        forced: Indices of the only option used on the temporal and channel
            axis, with the weight 1, whatever the gate says; see
            :func:`mmskip.force_routing`.
    """

    def __init__(
        self,
        hidden_channels: int = 16,
        start: float = 0.1,
        leak: float = 0.1,
    ) -> None:
        super().__init__()
        if not isinstance(hidden_channels, int) or hidden_channels < 1:
            raise ValueError(
                'expected hidden_channels to be a positive int, got '
                f'{hidden_channels!r}'
            )
        if not 0 < start < 1:
            raise ValueError(f'expected start between 0 and 1, got {start!r}')
        if not 0 <= leak <= 1:
            raise ValueError(f'expected leak in [0, 1], got {leak!r}')
        self.hidden_channels = hidden_channels
        self.start = float(start)
        self.leak = float(leak)
        self.options = (0, 0)
        self.forced: tuple[int, int] | None = None

    def attach(self, conv: nn.Module, time: int, channels: int) -> None:
        """Make the layers for a convolution.

        Args:
            conv: Convolution that the gate is for.
            time: S_t, 0 if the axis is not dynamic.
            channels: S_c, the same.
        """
        self.options = (time, channels)
        statistics = conv.in_channels * (2 if conv.weight.dim() == 5 else 1)
        like = dict(device=conv.weight.device, dtype=conv.weight.dtype)
        hidden = self.hidden_channels
        # The batch norm and beta are their biases.
        self.squeeze = nn.Linear(statistics, hidden, bias=False, **like)
        self.norm = nn.BatchNorm1d(hidden, **like)
        self.decide = nn.Linear(hidden, time + channels, bias=False, **like)
        # Unequal clips are told apart from the first step on.
        nn.init.normal_(self.decide.weight, std=0.02)
        beta = self._initial(time) + self._initial(channels)
        self.beta = nn.Parameter(conv.weight.new_tensor(beta))

    @property
    def sample_macs(self) -> int:
        """MACs of one decision; pooling is none, by the convention."""
        return self.squeeze.weight.numel() + self.decide.weight.numel()

    def forward(self, x: Tensor) -> OptionWeights:
        """Decide from the layer's input (N, C_in, T, H, W) or (N, C, H, W).

        Training and inference give the same weights, up to the batch norm.
        """
        if not self.training and runs_native(x):
            return self._force(self._infer(x).split(self.options, 1))
        x = self.squeeze(self.pool(x.detach()))
        if self.training and len(x) == 1:
            norm = self.norm
            x = nn.functional.batch_norm(
                x, norm.running_mean, norm.running_var, norm.weight,
                norm.bias, eps=norm.eps,
            )  # fmt: skip
        else:
            x = self.norm(x)
        x = self.decide(x.tanh()) + self.beta
        axes = open_gate(x, self.leak).split(self.options, 1)
        return self._force([_defined(a) if a.numel() else a for a in axes])

    def pool(self, x: Tensor) -> Tensor:
        """Pool a gate's input to (N, C_in or 2 C_in), ``G`` of the thesis."""
        mean = x.flatten(2).mean(2)
        if x.dim() == 4:
            return mean
        if x.shape[2] == 1:
            return torch.cat([mean, torch.zeros_like(mean)], 1)
        change = (x[:, :, 1:] - x[:, :, :-1]).abs_()
        return torch.cat([mean, change.flatten(2).mean(2)], 1)

    def extra_repr(self) -> str:
        time, channels = self.options
        return f'time={time}, channels={channels}, leak={self.leak}'

    def _initial(self, options: int) -> list[float]:
        small = self.start / max(options - 1, 1)
        weights = [1 - self.start] + [small] * (options - 1)
        return [math.atanh(weight) for weight in weights[:options]]

    def _infer(self, x: Tensor) -> Tensor:
        norm = self.norm
        statistics, eps = (), 0.0
        if isinstance(norm, nn.BatchNorm1d):  # it was not folded
            of_norm = norm.running_mean, norm.running_var
            statistics, eps = (*of_norm, norm.weight, norm.bias), norm.eps
        return native.soft_gate(
            x,
            self.squeeze.weight,
            self.squeeze.bias,
            statistics,
            eps,
            self.decide.weight,
            self.beta,
            self.options[0],
        )

    def _force(self, axes: Sequence[Tensor]) -> OptionWeights:
        forced = self.forced or (None, None)
        return OptionWeights(*map(_weights_of, axes, forced))


def used_options(weights: OptionWeights, samples: int) -> list[Usage]:
    """Find the options with a non-zero weight of each sample."""
    axes = [axis for axis in weights if axis is not None]
    # One copy from the device.
    rows = torch.cat([axis > 0 for axis in axes], 1).tolist()
    split = 0 if weights.time is None else weights.time.shape[1]
    return [Usage(_used(row[:split]), _used(row[split:])) for row in rows]


def union(usages: list[Usage]) -> Usage:
    """Join the options that any of the samples uses."""
    return Usage(
        *(
            tuple(sorted({option for used in axis for option in used}))
            for axis in zip(*usages, strict=True)
        )
    )


def _used(is_open: list[bool]) -> Options:
    return tuple(i for i, used in enumerate(is_open) if used) or (0,)


def _weights_of(weights: Tensor, forced: int | None) -> Tensor | None:
    if not weights.shape[1]:
        return None
    if forced is None:
        return weights
    options = weights.shape[1]
    only = [float(option == forced) for option in range(options)]
    return weights.new_tensor(only).expand(len(weights), options)


def _defined(weights: Tensor) -> Tensor:
    """Open the smallest option where none is."""
    # Added, so that the closed options still have their gradients.
    none = (weights == 0).all(1).to(weights.dtype)
    smallest = weights.shape[1] - 1
    return weights + nn.functional.pad(none[:, None], (smallest, 0))

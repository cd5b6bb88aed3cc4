"""Dynamic convolutions (VA-RED^2)."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmskip.core import (
    Converted,
    CountedWhole,
    follow_layout,
    straight_through,
)
from mmskip.native import ConvGeometry, convolve
from mmskip.native.geometry import conv_geometry
from mmskip.options import check_least
from mmskip.registry import MODELS, build_own

from .cheap_maps import TIME_MAPS, CheapMaps
from .dynamic_conv import Mix, dynamic_conv, dynamic_macs
from .gate import OptionWeights, SoftModulationGate
from .options import Options, Usage, refuse_options, union, used_options


class DynamicCost(NamedTuple):
    """MACs of one call of a dynamic layer in training.

    Attributes:
        dense: ``C(f_l)``, MACs of one sample in the plain layer.
        ratio: ``r / R`` of Eq. 3.3 for each sample (N,), with gradients.
    """

    dense: int
    ratio: Tensor

    @classmethod
    def of(cls, dense: int, weights: OptionWeights) -> 'DynamicCost':
        """The cost of what a gate chose."""
        axes = [axis for axis in weights if axis is not None]
        ratio = size_of_largest(axes[0])
        for axis in axes[1:]:
            ratio = ratio * size_of_largest(axis)
        return cls(dense, ratio)


def size_of_largest(weights: Tensor) -> Tensor:
    """Share that the largest option with a non-zero weight computes.

    VA-RED^2, Eq. 3.6: ``r^s``, or ``1 / R^s``. It is piecewise constant in
    the weights; the thesis does not say how it is learned. Ours: the
    gradient is that of its expectation if every option were open with a
    probability equal to its weight. It pushes the large options towards
    0, and a small one only as far as no larger one is open.

    Args:
        weights: (N, S), at least one of a row above 0.

    Returns:
        (N,), 1 / 2**i.
    """
    options = weights.shape[1]
    sizes = [0.5**index for index in range(options)]
    open_ = weights > 0
    hard = weights.new_tensor(sizes)[open_.to(torch.uint8).argmax(1)]
    closed, soft = 1, sizes[-1]
    for index in range(options - 1):
        closed = closed * (1 - weights[:, index])
        soft = soft + (sizes[index] - sizes[index + 1]) * (1 - closed)
    return straight_through(hard, soft)


GATE = dict(type='mmskip.SoftModulationGate')


class DynamicConvMixin(CountedWhole, Converted):
    """The behaviour of a dynamic convolution, over a torch convolution.

    In training one full convolution is computed and all options are summed
    (section 3.3). In eval mode each sample computes its largest option on
    each axis and nothing more; samples with the same one are computed
    together. Both give the same result from the same weights.
    """

    gate: SoftModulationGate
    cheap: CheapMaps
    search_space: tuple[int, int]
    # Set by ``mmskip.fold``: a full choice, too, goes the fast way, and is
    # not the plain layer bit for bit.
    planar: bool = False
    # Set inside blocks that collect; copies leave them behind.
    _choices: Any = None
    _costs: list[DynamicCost] | None = None

    def set_dynamic(
        self,
        time_options: int,
        channel_options: int,
        gate: dict | None = None,
        time_map: str = 'neighbours',
    ) -> None:
        """Give a plain convolution what makes it dynamic.

        Args:
            time_options: S_t; 1 leaves the temporal axis alone.
            channel_options: S_c; 1 leaves the channels alone.
            gate: Config of the gate.
            time_map: See :class:`mmskip.va_red2.CheapMaps`.

        Raises:
            ValueError: The layer cannot have these options.
        """
        why = refuse_options(self, time_options, channel_options)
        if why is not None:
            raise ValueError(f'expected a layer for these options, got {why}')
        if time_map not in TIME_MAPS:
            raise ValueError(
                f'expected time_map to be one of {TIME_MAPS}, got {time_map!r}'
            )
        self.search_space = (time_options, channel_options)
        # An axis with one option has nothing to decide.
        axes = [n if n > 1 else 0 for n in self.search_space]
        self.gate = build_own(GATE if gate is None else gate)
        self.gate.attach(self, *axes)
        self.cheap = CheapMaps(self, time_options, channel_options, time_map)

    def revert(self) -> None:
        """Give a plain convolution back, in place."""
        del self.gate
        del self.cheap
        del self.search_space
        self.__class__ = self.dense_class

    def forward(self, input: Tensor) -> Tensor:
        """Decide, then compute and rebuild."""
        if input.dim() < self.weight.dim():
            return self(input.unsqueeze(0)).squeeze(0)
        # The first pass of activation checkpointing has no gradients. The
        # gate does not hand any to its input: those of the costs are whole.
        collects = self._costs is not None
        with torch.set_grad_enabled(torch.is_grad_enabled() or collects):
            weights = self.gate(input)
        run = self._train if self.training else self._infer
        output = run(input, weights)
        # Of clips it may lie frame by frame; of images it can be viewed.
        is_clip = output.dim() == 5
        return follow_layout(output, input, self.weight) if is_clip else output

    def geometry(self, x: Tensor) -> ConvGeometry:
        """Where this layer reads in an input like ``x`` (N, C, ...)."""
        return conv_geometry(self)

    def macs_of(self, usage: Usage, shape: torch.Size) -> tuple[int, int]:
        """MACs of one sample: of the convolution, and the overhead.

        Args:
            usage: The options that its gate left open.
            shape: (C, ...) of its output.
        """
        executed, rest = dynamic_macs(
            shape, self.weight[0].numel(), *usage, self.cheap.kernels()
        )
        return executed, rest + self.gate.sample_macs

    def extra_repr(self) -> str:
        time, channels = self.search_space
        options = f'time_options={time}, channel_options={channels}'
        return f'{super().extra_repr()}, {options}'

    def __getstate__(self) -> dict:
        state = super().__getstate__()
        for name in ('_choices', '_costs'):
            state.pop(name, None)
        return state

    def __setattr__(self, name: str, value: Any) -> None:
        # Folding a batch norm (mmcv, torch) sets a new weight.
        old = self._parameters.get('weight') if name == 'weight' else None
        if old is not None and 'cheap' in self._modules:
            self.cheap.follow(old, value)
        super().__setattr__(name, value)

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        # A plain checkpoint: the maps begin near its filters.
        own = any(key.startswith(f'{prefix}cheap.') for key in state_dict)
        if f'{prefix}weight' in state_dict and not own:
            self.cheap.fit(self.weight)

    def _train(self, x: Tensor, weights: OptionWeights) -> Tensor:
        usage = Usage(*(tuple(range(n)) for n in self.search_space))
        output = self._compute(x, weights, usage)
        shape = output.shape[1:]
        dense = self._dense(shape)
        if self._costs is not None:
            with torch.enable_grad():
                self._costs.append(DynamicCost.of(dense, weights))
        if self._ledger is not None:
            all_dense = dense * len(x)
            overhead = self.macs_of(usage, shape)[1] * len(x)
            self._ledger.record(self, all_dense, all_dense, overhead)
        return output

    def _infer(self, x: Tensor, weights: OptionWeights) -> Tensor:
        usages = used_options(weights, len(x))
        groups: dict[Options, list[int]] = {}
        for index, usage in enumerate(usages):
            largest = tuple(axis[0] for axis in usage)
            groups.setdefault(largest, []).append(index)
        if len(groups) == 1:
            output = self._compute(x, weights, union(usages))
        else:
            output = self._compute_groups(x, weights, usages, groups)
        if self._ledger is not None or self._choices is not None:
            self._record(usages, output.shape[1:])
        return output

    def _compute_groups(
        self,
        x: Tensor,
        weights: OptionWeights,
        usages: list[Usage],
        groups: dict[Options, list[int]],
    ) -> Tensor:
        output = None
        for members in groups.values():
            index = torch.tensor(members, device=x.device)
            part = self._compute(
                x[index],
                OptionWeights(
                    *(w if w is None else w[index] for w in weights)
                ),
                union([usages[member] for member in members]),
            )
            if output is None:
                output = part.new_empty(len(x), *part.shape[1:])
            # One by one: four times as fast as output[index] = part.
            for place, member in enumerate(members):
                output[member] = part[place]
        return output

    def _compute(
        self, x: Tensor, weights: OptionWeights, usage: Usage
    ) -> Tensor:
        if not self.training and self._is_plain(weights, usage):
            if self.planar:
                return convolve(x, self.weight, self.bias, self.geometry(x))
            return super().forward(x)
        time, channels = (
            None if axis is None else Mix(axis, used)
            for axis, used in zip(weights, usage, strict=True)
        )
        return dynamic_conv(
            x,
            self.weight,
            self.bias,
            self.geometry(x),
            time,
            channels,
            self.cheap.tables,
        )

    @staticmethod
    def _is_plain(weights: OptionWeights, usage: Usage) -> bool:
        """Whether nothing but the full option counts, and with weight 1."""
        if usage != Usage((0,), (0,)):
            return False
        return all(axis is None or axis[:, 0].eq(1).all() for axis in weights)

    def _dense(self, shape: torch.Size) -> int:
        return shape.numel() * self.weight[0].numel()

    def _record(self, usages: list[Usage], shape: torch.Size) -> None:
        dense = self._dense(shape)
        costs = [self.macs_of(usage, shape) for usage in usages]
        if self._ledger is not None:
            executed, overhead = map(sum, zip(*costs, strict=True))
            self._ledger.record(self, dense * len(costs), executed, overhead)
        if self._choices is not None:
            self._choices.record(self, usages, dense, costs)


@MODELS.register_module()
class DynamicConv2d(DynamicConvMixin, nn.Conv2d):
    """``torch.nn.Conv2d`` with a dynamic number of computed channels.

    Args:
        *args: As of ``torch.nn.Conv2d``.
        search_space: S, 2 or 3 options: all, 1/2 (and 1/4) of the channels.
        gate: Config of the gate.
        **kwargs: As of ``torch.nn.Conv2d``.
    """

    dense_class = nn.Conv2d

    def __init__(
        self, *args, search_space: int = 2, gate: dict | None = None, **kwargs
    ) -> None:
        check_least(2, search_space=search_space)
        super().__init__(*args, **kwargs)
        self.set_dynamic(1, search_space, gate)


@MODELS.register_module()
class DynamicConv3d(DynamicConvMixin, nn.Conv3d):
    """``torch.nn.Conv3d``, dynamic along time and channels.

    Args:
        *args: As of ``torch.nn.Conv3d``.
        search_space: S, 2 or 3 options: all, 1/2 (and 1/4).
        time: Whether the temporal axis is dynamic.
        channels: Whether the channel axis is.
        gate: Config of the gate.
        **kwargs: As of ``torch.nn.Conv3d``.
    """

    dense_class = nn.Conv3d

    def __init__(
        self,
        *args,
        search_space: int = 2,
        time: bool = True,
        channels: bool = True,
        gate: dict | None = None,
        **kwargs,
    ) -> None:
        check_least(2, search_space=search_space)
        super().__init__(*args, **kwargs)
        self.set_dynamic(
            search_space if time else 1, search_space if channels else 1, gate
        )


DYNAMIC_CLASSES = (DynamicConv2d, DynamicConv3d)
try:
    from mmcv.cnn.bricks import Conv2d as MMCVConv2d
    from mmcv.cnn.bricks import Conv3d as MMCVConv3d
except ImportError:  # mmcv is optional: torch and mmengine suffice
    pass
else:
    # Each names torch's class as a base of its own: mmengine's
    # initialisers match a layer by the names of its direct bases.
    class DynamicMMCVConv2d(DynamicConvMixin, MMCVConv2d, nn.Conv2d):
        """mmcv's ``Conv2d`` wrapper as a dynamic convolution."""

        dense_class = MMCVConv2d

    class DynamicMMCVConv3d(DynamicConvMixin, MMCVConv3d, nn.Conv3d):
        """mmcv's ``Conv3d`` wrapper as a dynamic convolution."""

        dense_class = MMCVConv3d

    DYNAMIC_CLASSES += (DynamicMMCVConv2d, DynamicMMCVConv3d)

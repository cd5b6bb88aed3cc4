"""Layers of VA-RED^2, which compute what a sample needs, and the conversion.

B. Pan, "Dynamic Neural Network for Efficient Video Recognition", M.S. thesis,
MIT, 2023, chapter 3. Symbols: N samples, S_t and S_c options on the temporal
and the channel axis, r and 1 / R the shares of channels and frames that are
computed.
"""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmskip.core import (
    ConvConversion,
    Converted,
    CountedWhole,
    follow_layout,
    refuse_unknown,
    straight_through,
)
from mmskip.core.convert import ROI_REASON
from mmskip.native import ConvGeometry, PackedKernels, convolve
from mmskip.native.geometry import conv_geometry
from mmskip.options import check_least
from mmskip.registry import MODELS, build_own

from .dynamic_conv import Execution, Mix, dynamic_conv, dynamic_macs
from .gate import (
    Options,
    OptionWeights,
    SoftModulationGate,
    Usage,
    union,
    used_options,
)
from .mixing import TIME_MAPS, CheapMaps, option_sizes

GATE = dict(type='mmskip.SoftModulationGate')
SEARCH_SPACES = (2, 3)
KERNELS = ('spatial', 'all')


class DynamicCost(NamedTuple):
    """Holds what one call of a dynamic layer costs in training.

    Attributes:
        dense: ``C(f_l)``, MACs of one sample in the plain layer.
        ratio: ``r / R`` of Eq. 3.3 for each sample (N,), with gradients.
    """

    dense: int
    ratio: Tensor

    @classmethod
    def of(cls, dense: int, weights: OptionWeights) -> 'DynamicCost':
        """Make the cost of a gate's decision."""
        axes = [axis for axis in weights if axis is not None]
        ratio = size_of_largest(axes[0])
        for axis in axes[1:]:
            ratio = ratio * size_of_largest(axis)
        return cls(dense, ratio)


def size_of_largest(weights: Tensor) -> Tensor:
    """Compute the share of an axis that the largest open option computes.

    That is ``r^s``, or ``1 / R^s``, of VA-RED^2 (Eq. 3.6). It is piecewise
    constant in the weights; the thesis does not say how it is learned. Ours:
    the gradient is that of its expectation if every option were open with a
    probability equal to its weight. It pushes the large options towards 0,
    and a small one only as far as no larger one is open.

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


class DynamicConvMixin(CountedWhole, Converted):
    """Makes a torch convolution compute as much as each sample needs.

    In training one full convolution is computed and all options are summed
    (section 3.3). In eval mode each sample computes its largest option on
    each axis and nothing more; samples with the same one are computed
    together. Both give the same result from the same weights.
    """

    gate: SoftModulationGate
    cheap: CheapMaps
    search_space: tuple[int, int]
    # Set by ``mmskip.fold``: the full option, too, goes the fast way, and is
    # not the plain layer bit for bit.
    planar: bool = False
    # Set by ``mmskip.accelerate``: kernels of its own layout, and the
    # activation that is applied where outputs are written.
    packed: PackedKernels | None = None
    activation: str | None = None
    # Set inside blocks that collect; copies leave them behind.
    _routing: Any = None
    _costs: list[DynamicCost] | None = None

    def set_dynamic(
        self,
        time_options: int,
        channel_options: int,
        gate: dict | None = None,
        time_map: str = 'neighbours',
    ) -> None:
        """Give a plain convolution its gate and cheap maps.

        Args:
            time_options: S_t; 1 leaves the temporal axis alone.
            channel_options: S_c; 1 leaves the channels alone.
            gate: Config of the gate.
            time_map: ``neighbours`` rebuilds a frame from the computed ones
                around it, ``scale`` from the one before it.

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
        x = input
        if self.packed is not None and x.dim() == 5:
            x = x.contiguous(memory_format=torch.channels_last_3d)
        with torch.set_grad_enabled(torch.is_grad_enabled() or collects):
            weights = self.gate(x)
        run = self._train if self.training else self._infer
        output = run(x, weights)
        # Clips may lie frame by frame; images can be viewed.
        is_clip = output.dim() == 5
        return follow_layout(output, x, self.weight) if is_clip else output

    def geometry(self, x: Tensor) -> ConvGeometry:
        """Tell where this layer reads in an input like ``x`` (N, C, ...)."""
        return conv_geometry(self)

    def macs_of(self, usage: Usage, shape: torch.Size) -> tuple[int, int]:
        """Count the MACs of one sample: of the convolution, and overhead.

        Args:
            usage: Options that its gate left open.
            shape: Shape (C, ...) of its output.
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
        for name in ('_routing', '_costs'):
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
        if self._ledger is not None or self._routing is not None:
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
            y = self._compute(
                x[index],
                OptionWeights(
                    *(w if w is None else w[index] for w in weights)
                ),
                union([usages[member] for member in members]),
            )
            if output is None:
                output = y.new_empty(len(x), *y.shape[1:])
            # One by one: four times as fast as output[index] = y.
            for place, member in enumerate(members):
                output[member] = y[place]
        return output

    def _compute(
        self, x: Tensor, weights: OptionWeights, usage: Usage
    ) -> Tensor:
        if not self.training and self._is_plain(weights, usage):
            return self._convolve(x)
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
            self.cheap.factors,
            self._execution(),
        )

    def _convolve(self, x: Tensor) -> Tensor:
        """Compute all of the plain layer, and the activation."""
        if not self.planar:
            return super().forward(x)
        conv2d, activation = self._execution()
        if activation is not None:
            conv2d = partial(conv2d, activation=activation)
        return convolve(x, self.weight, self.bias, self.geometry(x), conv2d)

    def _execution(self) -> Execution:
        if self.packed is None:
            return Execution()
        return Execution(self.packed.conv2d, self.activation)

    @staticmethod
    def _is_plain(weights: OptionWeights, usage: Usage) -> bool:
        """Tell if the full option counts alone, and with weight 1."""
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
        if self._routing is not None:
            self._routing.record(self, usages, dense, costs)


@MODELS.register_module()
class DynamicConv2d(DynamicConvMixin, nn.Conv2d):
    """Computes as many channels of a ``torch.nn.Conv2d`` as samples need.

    Args:
        *args: Passed on to ``torch.nn.Conv2d``.
        search_space: S, 2 or 3 options: all, 1/2 (and 1/4) of the channels.
        gate: Config of the gate.
        **kwargs: Passed on to ``torch.nn.Conv2d``.
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
    """Computes as many frames and channels as a clip needs, like ``Conv3d``.

    Args:
        *args: Passed on to ``torch.nn.Conv3d``.
        search_space: S, 2 or 3 options: all, 1/2 (and 1/4).
        time: True makes the temporal axis dynamic.
        channels: True makes the channel axis dynamic.
        gate: Config of the gate.
        **kwargs: Passed on to ``torch.nn.Conv3d``.
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
        """Makes mmcv's ``Conv2d`` wrapper a dynamic convolution."""

        dense_class = MMCVConv2d

    class DynamicMMCVConv3d(DynamicConvMixin, MMCVConv3d, nn.Conv3d):
        """Makes mmcv's ``Conv3d`` wrapper a dynamic convolution."""

        dense_class = MMCVConv3d

    DYNAMIC_CLASSES += (DynamicMMCVConv2d, DynamicMMCVConv3d)


def refuse_options(
    conv: nn.Module, time_options: int, channel_options: int
) -> str | None:
    """Say why a convolution cannot have these options, None if it can.

    Args:
        conv: Convolution.
        time_options: S_t, 1 or less if the axis is not to be dynamic.
        channel_options: S_c, the same.
    """
    if time_options < 2 and channel_options < 2:
        return 'no axis with at least two options'
    if time_options > 1 and conv.weight.dim() < 5:
        return 'a temporal axis on a convolution of images'
    sizes = option_sizes(conv.out_channels, channel_options)
    if len(set(sizes)) < len(sizes):
        return (
            f'{conv.out_channels} output channels, too few for '
            f'{channel_options} options that differ'
        )
    if conv.groups > 1 and any(
        size * conv.groups % conv.out_channels for size in sizes
    ):
        return (
            f'{conv.groups} groups, which {channel_options} channel options '
            'would cut in parts'
        )
    return None


@MODELS.register_module()
class DynamicConversion(ConvConversion):
    """Converts 2-D and 3-D convolutions to dynamic convolutions.

    B. Pan, "Dynamic Neural Network for Efficient Video Recognition", M.S.
    thesis, MIT, 2023. As it does "mainly to 2D convolutions in R(2+1)D", by
    default those with a spatial kernel are converted: in pointwise, temporal
    and depthwise ones the cheap maps are a large part of what they save.
    Convolutions of images have the channel axis only.

    Args:
        search_space: Options per axis, 2 (all, half) or 3 (and a quarter).
        time: True makes the temporal axis dynamic (Tables 4.11, 4.12).
        channels: True makes the channel axis dynamic.
        kernels: ``spatial`` as above, or ``all``: pointwise, temporal and
            depthwise convolutions, too.
        hidden_channels: D_h of the gates.
        start: Initial weight of all options but the full one, in sum.
        leak: Share of a gradient that reopens a closed option.
        time_map: ``neighbours`` rebuilds a frame from the computed ones
            around it, ``scale`` from the one before it.
        roi_heads: True also converts layers inside RoI heads.

    Raises:
        ValueError: An option is out of range.
    """

    def __init__(
        self,
        search_space: int = 2,
        time: bool = True,
        channels: bool = True,
        kernels: str = 'spatial',
        hidden_channels: int = 16,
        start: float = 0.1,
        leak: float = 0.1,
        time_map: str = 'neighbours',
        roi_heads: bool = False,
    ) -> None:
        for name, value, known in (
            ('search_space', search_space, SEARCH_SPACES),
            ('kernels', kernels, KERNELS),
            ('time_map', time_map, TIME_MAPS),
        ):
            if value not in known:
                raise ValueError(
                    f'expected {name} to be one of {known}, got {value!r}'
                )
        if not (time or channels):
            raise ValueError(
                'expected time or channels to be dynamic, got neither'
            )
        self.search_space = search_space
        self.time = time
        self.channels = channels
        self.kernels = kernels
        self.gate = dict(
            type='SoftModulationGate',
            hidden_channels=hidden_channels,
            start=start,
            leak=leak,
        )
        SoftModulationGate(hidden_channels, start, leak)  # checks them
        self.time_map = time_map
        self.roi_heads = roi_heads
        self._dynamic_class = {
            kind.dense_class: kind for kind in DYNAMIC_CLASSES
        }

    def refusal(self, name: str, module: nn.Module) -> str | None:
        """Say why a layer stays as it is, None if it can be converted."""
        reason = refuse_unknown(module, self._dynamic_class)
        if reason is not None:
            return reason
        if self.kernels == 'spatial':
            if max(module.kernel_size[-2:]) == 1:
                return "no spatial kernel (kernels='all' converts it)"
            if module.weight.shape[1] == 1 and module.groups > 1:
                return "depthwise (kernels='all' converts it)"
        if not self.roi_heads and 'roi_head' in name.split('.'):
            return ROI_REASON
        return refuse_options(module, *self._options(module))

    def apply(self, name: str, module: nn.Module) -> None:
        """Convert one layer in place; parameters, hooks and name stay."""
        module.__class__ = self._dynamic_class[type(module)]
        module.set_dynamic(*self._options(module), self.gate, self.time_map)
        # Gate and maps follow the layer they belong to.
        for added in (module.gate, module.cheap):
            added.to(module.weight.device).train(module.training)

    def _options(self, module: nn.Module) -> tuple[int, int]:
        """Get S_t and S_c of a layer; 1 for an axis that is not dynamic."""
        clips = module.weight.dim() == 5
        return (
            self.search_space if self.time and clips else 1,
            self.search_space if self.channels else 1,
        )

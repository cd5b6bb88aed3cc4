"""Convolutions that compute, inside a stream or clip, only what changed.

Skip-Convolutions for Efficient Video Processing (CVPR 2021), Eq. 3.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmskip.core import (
    Converted,
    GateCost,
    SelfCounting,
    dense_macs,
)
from mmskip.native import (
    ConvGeometry,
    activate_,
    active_backend,
    convolve,
    is_exact_inference,
    is_in_backward,
)
from mmskip.native import library as native
from mmskip.native.geometry import conv_geometry
from mmskip.reading import InputError
from mmskip.registry import MODELS

from .gate_mask import Drawn, GatePlace
from .gates import Gate, as_gate
from .native_layer import MEMORY_RULES, LayerCache, NativeCall, SkipParams
from .reference import (
    ClipMemory,
    SkipMemory,
    empty_memory,
    native_call,
    skip_clip,
    skip_conv,
    skip_frames,
    transmit_clip,
)


class FrameMacs(NamedTuple):
    """Tells what a layer may cost in a frame, which is always the same.

    Attributes:
        dense: MACs of a reference frame, or of the unconverted layer.
        per_output: MACs of one position of the output, in all channels.
        overhead: MACs of the gate, in all but reference frames.
    """

    dense: int
    per_output: int
    overhead: int


class SkipConvMixin(SelfCounting, Converted):
    """Makes a torch convolution compute only what changed, in a stream.

    Outside ``stream`` and ``clip`` it is the torch layer, bit for bit.
    """

    gate: Gate
    memory: str
    # Estimates the motion of the camera, if that is to be compensated.
    motion: Any = None
    # Applied to the output that is returned, see fold().
    activation: str | None = None
    # Step and zero of the bytes in which plans in int8 remember the input.
    input_grid: tuple[float, int] | None = None
    # Module with more weights that what is remembered of this layer is of.
    keeper: nn.Module | None = None
    # True if a clip has ended before its backward ran the layer again.
    left_clip: bool = False
    _native_layers: LayerCache | None = None

    def set_skip(self, gate: dict | Gate, memory: str) -> None:
        """Give a plain convolution what makes it a Skip-Convolution.

        Args:
            gate: A gate, or its config.
            memory: ``previous`` or ``accumulated``, see
                :func:`.reference.skip_conv`.

        Raises:
            ValueError: ``memory`` is neither.
        """
        if memory not in MEMORY_RULES:
            raise ValueError(
                f'expected memory to be one of {MEMORY_RULES}, got {memory!r}'
            )
        self.gate = as_gate(gate)
        self.gate.attach(self)
        self.memory = memory

    @property
    def dims(self) -> int:
        """Number of dimensions of a batch of inputs (N, C_in, ...)."""
        return self.weight.dim()

    def kernel_of(self, weight: Tensor) -> Tensor:
        """View the weight as the operators take it, (C_out, C_in, ...)."""
        return weight

    @property
    def kernel(self) -> Tensor:
        """The weight as the operators take it."""
        return self.kernel_of(self.weight)

    def revert(self) -> None:
        """Give a plain layer back, in place."""
        del self.gate
        del self.memory
        self.__dict__.pop('motion', None)
        self.__dict__.pop('input_grid', None)
        self.__dict__.pop('keeper', None)
        self.__dict__.pop('_native_layers', None)
        self.__class__ = self.dense_class

    def why_final(self) -> str | None:
        """Say why there is no way back: an activation would be forgotten."""
        if self.activation is None:
            return None
        return (
            f'it has the {self.activation} that mmskip.fold() made a part of '
            'it'
        )

    def forward(self, input: Tensor) -> Tensor:
        """Run under the binding if there is one, else as the torch layer."""
        if self._binding is not None:
            return self._binding.run(self, input)
        if self.left_clip:
            self._refuse_backward()
        output = super().forward(input)
        if self._ledger is not None:
            macs = dense_macs(self, output.shape)
            self._ledger.record(self, macs, macs)
        return activate_(output, self.activation)

    def skip_frame(
        self, x: Tensor, memory: SkipMemory | None
    ) -> tuple[Tensor, Tensor, SkipMemory]:
        """Compute one frame and record it; see :func:`.reference.skip_conv`.

        Args:
            x: (N, C_in, ...), one frame of each of N streams.
            memory: Memory of this call site, None for a reference frame.
        """
        layers = self._layers_for(x)
        output, mask, after = skip_conv(x, memory, self.params(x), layers)
        self._record(x.shape, mask, memory is None)
        return output, mask, after

    def has_weights_of(self, call: NativeCall) -> bool:
        """Tell if a prepared call has the weights as they are now.

        Their values are compared, which takes a while, so that writes past
        torch's version counters are noticed.
        """
        layers = self._native_layers
        params = call.params._replace(weight=self.kernel)
        return layers is not None and call.layer is layers.get(params, True)

    def foresee(
        self, x: Tensor, output: Tensor
    ) -> tuple[SkipMemory, NativeCall] | None:
        """Prepare a call site for a reference frame that a plan computes.

        Args:
            x: Input of the size that it will have.
            output: Output, the same.

        Returns:
            Memory with nothing in it, and the call for it; None if the
            native backend is not to run.
        """
        layers = self._layers_for(x)
        if layers is None:
            return None
        params = self.params(x)
        layers.get(params, check=True)
        memory = empty_memory(x, output, params)
        return memory, native_call(memory, params, layers)

    def prepare(self, x: Tensor, memory: SkipMemory) -> NativeCall | None:
        """Prepare the next frames, to run as :meth:`skip_frame` would.

        Args:
            x: The input of this frame.
            memory: Memory that this frame left.

        Returns:
            None if the native backend is not to run.
        """
        layers = self._layers_for(x)
        if layers is None:
            return None
        return native_call(memory, self.params(x), layers)

    def is_prepared(self, call: NativeCall | None) -> bool:
        """Tell if no setting has changed since :meth:`prepare`."""
        if call is None or not is_exact_inference():
            return False
        weight, bias = self.held_weights()
        if weight is None:
            return False
        gate = self.gate.params()
        kernel = self.kernel_of(weight)
        return call.holds(kernel, bias, gate, self.memory, self.activation)

    def held_weights(self) -> tuple[Tensor | None, Tensor | None]:
        """Give weight and bias if they are the same objects as last time.

        The weight is None where a parametrization computes it anew.
        """
        return self._parameters.get('weight'), self._parameters.get('bias')

    def run_prepared(
        self, call: NativeCall | None, x: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """Compute a frame by what :meth:`prepare` returned.

        Returns:
            Output and mask; None if a setting or the shape has changed.
        """
        if not self.is_prepared(call) or not call.fits(x):
            return None
        output, mask = call.run(x)
        self._record(x.shape, mask)
        return output, mask

    def native_refusal(
        self,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> str | None:
        """Say why the native backend refuses this layer, None if it takes it.

        Args:
            dtype: Type to ask for in place of that of the weights.
            device: Device to ask for in place of that of the weights.
        """
        if self.motion is not None:
            return 'motion compensation'
        weight = self.weight
        return native.refusal(
            self.dims - 2,
            self.padding_mode,
            dtype or weight.dtype,
            device or weight.device,
        )

    def force_mask(self, mask: Tensor | None) -> None:
        """Let the native backend compute a given share of outputs, to time it.

        Args:
            mask: Bool (H_out, W_out); outputs fire nowhere else from the next
                reference frame on. None: wherever the gate says.
        """
        self._native_layers = LayerCache(mask)

    def _refuse_backward(self) -> None:
        """Refuse to compute as a plain layer what was no plain layer."""
        del self.left_clip
        if is_in_backward():
            raise RuntimeError(
                'expected backward() inside mmskip.clip() of a model with '
                'activation checkpointing (with_cp=True), which runs its '
                'layers again, got it behind the block; move it inside'
            )

    def params(self, x: Tensor) -> SkipParams:
        """Bundle what the operators need for an input like ``x``."""
        return SkipParams(
            self.kernel,
            self.bias,
            self.geometry(x),
            self.gate.params(),
            self.memory,
            self.activation,
        )

    def _layers_for(self, x: Tensor) -> LayerCache | None:
        """Find the cache of native layers, None if torch is to run.

        It has no gradients and no precision but one; whoever wants others
        gets the torch reference.
        """
        if (
            not is_exact_inference()
            or active_backend() != 'native'
            or x.dtype != torch.float32
            or self.native_refusal() is not None
        ):
            return None
        if self._native_layers is None:
            self._native_layers = LayerCache()
        return self._native_layers

    def __getstate__(self) -> dict:
        state = super().__getstate__()
        state.pop('_native_layers', None)
        state.pop('left_clip', None)
        return state

    def skip_clip(
        self,
        frames: Tensor,
        memory: ClipMemory | None = None,
        keep: bool = False,
    ) -> tuple[Tensor, GateCost, ClipMemory | None]:
        """Compute whole clips in training; see :func:`.reference.skip_clip`.

        Where the level of a relative gate without parameters follows the
        frames, they run one after the other. That of a learned one is taken
        between clips.

        Args:
            frames: (B, T, C_in, ...).
            memory: That of the clips before these, which they go on from;
                None: the first frame is the reference frame.
            keep: True to have memory for the clips that follow.

        Returns:
            Output (B, T, C_out, ...), what the gates cost, and the memory
            for the clips that follow; None if it is not to be kept or there
            is none, with the memory rule ``previous`` and where frames run
            one by one.
        """
        params = self.params(frames[:, 0])
        if params.gate.relative and not self.gate.learns:
            output, masks = skip_frames(frames, params)
            drawn = [Drawn(*(mask.to(output.dtype),) * 2) for mask in masks]
            after = None
        else:
            output, drawn, after = self._clip(frames, params, memory, keep)
        frame_macs = dense_macs(self, output[:, 0].shape)
        references = 1 if memory is None else 0
        later = frames.shape[1] - references
        cost = GateCost.of(frame_macs * later, drawn)
        if self._ledger is not None:
            self._record_clip(frames, output, drawn, references)
        return activate_(output, self.activation), cost, after

    def _clip(
        self,
        frames: Tensor,
        params: SkipParams,
        memory: ClipMemory | None,
        keep: bool,
    ) -> tuple[Tensor, list[Drawn], ClipMemory | None]:
        """Compute clips with decisions that are drawn."""
        weight, bias, geometry = params[:3]
        if memory is None:
            memory = ClipMemory.of_nothing(frames[:, 0], params)
        place = GatePlace(memory.scale, geometry, weight.shape[2:])
        if self.memory != 'accumulated':
            output, drawn = skip_clip(frames, weight, bias, self.gate, place)
            return output, drawn, None
        inputs, drawn = transmit_clip(frames, self.gate, place, memory.input)
        output = convolve(inputs.flatten(0, 1), weight, bias, geometry)
        output = output.unflatten(0, frames.shape[:2])
        if not keep:
            return output, drawn, None
        mask = drawn[0].mask if drawn else output.new_zeros(0, 1, 1)
        return output, drawn, memory.after(inputs, output, mask, params)

    def geometry(self, x: Tensor) -> ConvGeometry:
        """Tell where this layer reads in an input like ``x`` (N, C, ...)."""
        return conv_geometry(self)

    def extra_repr(self) -> str:
        text = f'{super().extra_repr()}, memory={self.memory!r}'
        return f'{text}, {self.activation}' if self.activation else text

    def frame_macs(self, size: torch.Size, mask: Tensor) -> FrameMacs:
        """Tell what a frame may cost.

        Args:
            size: Size (N, C_in, ...) of the input.
            mask: Bool (N, 1, ...), of the size of those of computed outputs.
        """
        output = torch.Size((len(mask), self.out_channels, *mask.shape[2:]))
        return FrameMacs(
            dense_macs(self, output),
            dense_macs(self, torch.Size((1, self.out_channels))),
            self._gate_macs(size, output),
        )

    def _gate_macs(self, size: torch.Size, output: torch.Size) -> int:
        """Count the MACs of the gate; sizes are those of a batch."""
        return self.gate.macs(size, output, self.kernel.shape[2:].numel())

    def record_frame(
        self,
        macs: FrameMacs,
        computed: int | Tensor,
        is_reference: bool = False,
    ) -> None:
        """Record the MACs of a frame, if a ledger is bound.

        Args:
            macs: What a frame of this size may cost.
            computed: Number of outputs that were computed.
            is_reference: True for a reference frame.
        """
        if self._ledger is None:
            return
        dense, per_output, overhead = macs
        if is_reference:
            self._ledger.record(self, dense, dense, reference=dense)
        else:
            executed = computed * per_output
            self._ledger.record(self, dense, executed, overhead)

    def _record(
        self, size: torch.Size, mask: Tensor, is_reference: bool = False
    ) -> None:
        if self._ledger is not None:
            macs = self.frame_macs(size, mask)
            self.record_frame(macs, mask.sum(), is_reference)

    def _record_clip(
        self,
        frames: Tensor,
        output: Tensor,
        drawn: list[Drawn],
        references: int,
    ) -> None:
        macs = dense_macs(self, output[:, 0].shape)
        later = frames.shape[1] - references
        per_output = dense_macs(self, torch.Size((1, self.out_channels)))
        fired = sum(d.mask.detach().sum().long() for d in drawn)
        sizes = frames[:, 0].shape, output[:, 0].shape
        if references:
            self._ledger.record(self, macs, macs, reference=macs)
        self._ledger.record(
            self,
            macs * later,
            fired * per_output,
            overhead=self._gate_macs(*sizes) * later,
        )


def unfold(x: Tensor, num_frames: int) -> Tensor:
    """Tell the frames of a batch apart.

    Args:
        x: (B*T, C, ...), clip-major.
        num_frames: T.

    Returns:
        (B, T, C, ...).

    Raises:
        InputError: The batch is not a multiple of ``num_frames``.
    """
    if len(x) % num_frames:
        raise InputError(
            f'expected a batch of a multiple of num_frames={num_frames} '
            f'frames, got {len(x)}; fold clips as (B*T, C, H, W): the same '
            'num_frames in VideoHook and in ClipDataset'
        )
    return x.unflatten(0, (-1, num_frames))


def run_frames(
    layer: SkipConvMixin,
    x: Tensor,
    num_frames: int,
    memory: SkipMemory | None,
    restarts: Collection[int] = (),
) -> tuple[Tensor, Tensor, SkipMemory]:
    """Run a layer over the frames folded in a batch, one after the other.

    Args:
        layer: The converted layer.
        x: (B*T, C, ...), clip-major.
        num_frames: T.
        memory: Memory of the frame before the first one.
        restarts: Frames that are reference frames, whatever came before.

    Returns:
        Output (B*T, C_out, ...), mask (B*T, 1, ...), memory of the last
        frame.

    Raises:
        ValueError: The batch is not a multiple of ``num_frames``.
    """
    if num_frames == 1 and not restarts:
        return layer.skip_frame(x, memory)
    frames = unfold(x, num_frames)
    outputs, masks = [], []
    for index in range(num_frames):
        if index in restarts:
            memory = None
        output, mask, memory = layer.skip_frame(frames[:, index], memory)
        outputs.append(output)
        masks.append(mask)
    if num_frames == 1:
        return output, mask, memory
    output = torch.stack(outputs, 1).flatten(0, 1)
    return output, torch.stack(masks, 1).flatten(0, 1), memory


@MODELS.register_module()
class SkipConv2d(SkipConvMixin, nn.Conv2d):
    """Skips the computation of unchanged pixels in a ``torch.nn.Conv2d``.

    Args:
        *args: Passed on to ``torch.nn.Conv2d``.
        gate: A gate or its config, e.g.
            ``dict(type='OutputNormGate', threshold=0.05)``.
        memory: ``previous`` (the paper) or ``accumulated``.
        **kwargs: Passed on to ``torch.nn.Conv2d``.
    """

    dense_class = nn.Conv2d

    def __init__(
        self, *args, gate: dict | Gate, memory: str = 'previous', **kwargs
    ) -> None:
        super().__init__(*args, **kwargs)
        self.set_skip(gate, memory)


@MODELS.register_module()
class SkipConv3d(SkipConvMixin, nn.Conv3d):
    """Skips, like :class:`SkipConv2d`, in a ``Conv3d`` over video windows.

    A "frame" is a 5-D input (N, C, T, H, W): consecutive windows of one
    shape. The mask is (N, 1, T_out, H_out, W_out).

    Args:
        *args: Passed on to ``torch.nn.Conv3d``.
        gate: A gate or its config.
        memory: ``previous`` (the paper) or ``accumulated``.
        **kwargs: Passed on to ``torch.nn.Conv3d``.
    """

    dense_class = nn.Conv3d

    def __init__(
        self, *args, gate: dict | Gate, memory: str = 'previous', **kwargs
    ) -> None:
        super().__init__(*args, **kwargs)
        self.set_skip(gate, memory)


SKIP_CLASSES = (SkipConv2d, SkipConv3d)
try:
    from mmcv.cnn.bricks import Conv2d as MMCVConv2d
    from mmcv.cnn.bricks import Conv2dAdaptivePadding
    from mmcv.cnn.bricks import Conv3d as MMCVConv3d
except ImportError:  # mmcv is optional: torch and mmengine suffice
    pass
else:
    # Each names torch's class as a base of its own: mmengine's
    # initialisers match a layer by the names of its direct bases.
    class SkipMMCVConv2d(SkipConvMixin, MMCVConv2d, nn.Conv2d):
        """Skips in mmcv's ``Conv2d`` wrapper."""

        dense_class = MMCVConv2d

    class SkipMMCVConv3d(SkipConvMixin, MMCVConv3d, nn.Conv3d):
        """Skips in mmcv's ``Conv3d`` wrapper."""

        dense_class = MMCVConv3d

    class SkipConv2dAdaptivePadding(
        SkipConvMixin, Conv2dAdaptivePadding, nn.Conv2d
    ):
        """Skips in mmcv's convolution with TensorFlow-style padding."""

        dense_class = Conv2dAdaptivePadding

        def geometry(self, x: Tensor) -> ConvGeometry:
            """Tell where this layer reads, padded as this input size needs."""
            pairs = []
            for size, k, s, d in zip(
                x.shape[2:],
                self.kernel_size,
                self.stride,
                self.dilation,
                strict=True,
            ):
                needed = max(
                    (-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0
                )
                pairs.append((needed // 2, needed - needed // 2))
            return super().geometry(x)._replace(padding=tuple(pairs))

    SKIP_CLASSES += (SkipMMCVConv2d, SkipMMCVConv3d, SkipConv2dAdaptivePadding)

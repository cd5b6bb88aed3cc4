"""A Skip-Convolution in torch: one frame, and whole clips for training.

Skip-Convolutions for Efficient Video Processing (CVPR 2021), Eq. 3:
``z_t = z_{t-1} + g(r_t) * (w conv r_t)``. Symbols: B clips, T frames, N
images, C channels.

:func:`skip_conv` computes one frame; it is the function that every backend
implements, and hands it on to the native one where that is asked for.
:func:`skip_clip` computes all T frames of clips at once, with gradients.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mmskip.native import (
    activate_,
    convolve,
    cover_sum,
    support_sum,
)
from mmskip.native import library as native

from .gate_mask import (
    Drawn,
    GatePlace,
    Opening,
    block_mask,
    gate_logits,
    gate_mask,
    gate_scale,
    level_rows,
    relative_scale,
    signal_norms,
)
from .gates import Gate
from .native_layer import LayerCache, NativeCall, SkipParams


class SkipMemory(NamedTuple):
    """Keeps what one call site remembers between two frames.

    Attributes:
        input: The input that residuals are taken against, (N, C_in, ...).
        output: The last output, (N, C_out, ...).
        scale: The gate's factor, a scalar or, of a relative gate, one per
            stream (N, 1, ...).
        computed: Number of outputs of each stream that were computed since
            the level of a relative gate was taken, int64 (N,).
        exposed: Outputs of which nothing is known, bool (N, 1, ...): they
            are computed next, whatever the gate says. None: no output.
        pending: Motion of the picture that input and output have not
            followed yet, (N, 3, 3), see :mod:`mmskip.skip_conv.motion`.
    """

    input: Tensor
    output: Tensor
    scale: Tensor
    computed: Tensor | None = None
    exposed: Tensor | None = None
    pending: Tensor | None = None

    def fits(self, x: Tensor) -> bool:
        """Tell if ``x`` continues this memory (shape, dtype, device).

        Under autocast the output has another dtype than the input.
        """
        return (
            self.input.shape == x.shape
            and self.input.dtype == x.dtype
            and self.input.device == x.device
            and self.output.dtype == _output_dtype(x)
        )

    def detach(self) -> 'SkipMemory':
        """Return the memory, cut off from the autograd graph."""
        return SkipMemory(*(None if t is None else t.detach() for t in self))

    def clone(self) -> 'SkipMemory':
        """Copy the memory, so that the next frame does not change it."""
        return SkipMemory(*(None if t is None else t.clone() for t in self))

    def whole(self) -> 'SkipMemory':
        """Return the memory, as :meth:`HeldMemory.whole` does."""
        return self

    @property
    def nbytes(self) -> int:
        return self.input.nbytes + self.output.nbytes


class HeldMemory:
    """Stands for the memory of a call site that is held in another form.

    Args:
        images: Function that makes input and output of that form, float32
            in channels_last.
        memory: Memory that went into it.
        nbytes: Bytes that the form takes.

    Attributes:
        scale: As of :class:`SkipMemory`; it is updated in place.
        computed: The same.
        nbytes: Bytes that the form takes.
    """

    def __init__(
        self,
        images: Callable[[], tuple[Tensor, Tensor]],
        memory: SkipMemory,
        nbytes: int,
    ) -> None:
        self.scale = memory.scale
        self.computed = memory.computed
        self.nbytes = nbytes
        self._images = images

    def whole(self) -> SkipMemory:
        """Make the memory that it stands for, a copy.

        Outputs that were never computed anew since the reference frame are
        equal up to rounding.
        """
        counts = None if self.computed is None else self.computed.clone()
        return SkipMemory(*self._images(), self.scale.clone(), counts)

    def __deepcopy__(self, memo: dict) -> SkipMemory:
        return self.whole()

    def __reduce__(self) -> tuple:
        return SkipMemory, tuple(self.whole())


class ClipMemory(NamedTuple):
    """Keeps what the clips that follow in training go on from.

    So clips of a few frames learn what gates do in the middle of a video,
    where the last transmitted input is older than the clip (back-propagation
    through time, truncated at the clips). Gradients do not reach back.

    Attributes:
        input: Last transmitted input (B, C_in, ...); None before a reference
            frame.
        scale: Factor of the gate, see :func:`.gate_mask.gate_scale`.
        computed: Outputs computed since the level of a relative gate was
            taken, (B,).
    """

    input: Tensor | None
    scale: Tensor
    computed: Tensor

    @classmethod
    def of_nothing(cls, x: Tensor, params: SkipParams) -> 'ClipMemory':
        """Begin with a reference frame ``x`` (B, C_in, ...)."""
        weight, bias, geometry, gate = params[:4]
        if not gate.relative:
            scale = gate_scale(gate, weight, geometry)
            return cls(None, scale, _no_counts(x))
        with torch.no_grad():
            signal = x
            if gate.kind != 'input_norm':
                # Of the rows that tell the level; the others come later.
                rows = level_rows(x, weight.shape[2:], geometry)
                signal = convolve(x, weight, bias, rows)
            norms = signal_norms(gate, weight, geometry)
            scale = relative_scale(signal, norms)
        return cls(None, scale, _no_counts(x))

    def after(
        self,
        inputs: Tensor,
        output: Tensor,
        mask: Tensor,
        params: SkipParams,
    ) -> 'ClipMemory':
        """Remember clips that were computed.

        The level of a relative gate is taken anew as in a stream, but for
        clips: after the one in which it is due.

        Args:
            inputs: What was transmitted, (B, T, C_in, ...).
            output: (B, T, C_out, ...).
            mask: Of the frames that were no reference frames, as
                :func:`transmit_clip` returns it.
            params: Parameters of the layer.
        """
        # A copy: a view would hold on to the inputs of all frames.
        x, y = inputs[:, -1].detach().clone(), output[:, -1].detach()
        if not params.gate.relative:
            return self._replace(input=x)
        fired = mask.detach().unflatten(0, (-1, len(inputs)))
        computed = self.computed + fired.flatten(2).sum((0, 2))
        due = 2 * computed >= y[0, 0].numel()
        scale = self.scale
        if due.any():
            fresh = _fresh_scale(x, y, params)
            scale = torch.where(due.view(fresh.shape), fresh, scale)
        return ClipMemory(x, scale, computed.where(~due, 0))


def skip_conv(
    x: Tensor,
    memory: SkipMemory | None,
    params: SkipParams,
    layers: LayerCache | None = None,
) -> tuple[Tensor, Tensor, SkipMemory]:
    """Compute one frame of a Skip-Convolution.

    The torch reference masks a dense convolution; it defines the results of
    all backends, and saves no time.

    Args:
        x: Input (N, C_in, ...), N streams in lock-step.
        memory: Memory of the call site, which is used up: a backend may
            update it in place. None makes this frame a reference frame,
            computed densely.
        params: Parameters of the layer.
        layers: Cache of native layers, which asks for the native backend;
            None for the torch reference.

    Returns:
        Output (N, C_out, ...); bool mask (N, 1, ...) of computed outputs;
        the new memory. None of them aliases ``x`` or another; gradients
        reach earlier frames through the memory of the torch reference.
    """
    if memory is not None and layers is not None:
        memory = _channels_last(memory)
        call = native_call(memory, params, layers)
        return *call.run(x), memory
    if memory is None:
        output, mask, memory = _reference_frame(x, params, layers)
    else:
        step = _accumulated if params.rule == 'accumulated' else _previous
        output, mask, reference = step(x, memory, *params[:4])
        memory = memory._replace(
            input=reference, output=_own(output), exposed=None
        )
        memory = _follow_level(memory, mask, params)
    return activate_(output, params.activation), mask, memory


def skip_frames(
    frames: Tensor, params: SkipParams
) -> tuple[Tensor, list[Tensor]]:
    """Compute clips frame by frame, the first one a reference frame.

    They are differentiable but for the gate's decisions.

    Args:
        frames: (B, T, C_in, ...).
        params: Parameters of the layer.

    Returns:
        Output (B, T, C_out, ...); masks (B, 1, ...) of the frames after the
        first.
    """
    memory, outputs, masks = None, [], []
    for x in frames.unbind(1):
        output, mask, memory = skip_conv(x, memory, params)
        outputs.append(output)
        masks.append(mask)
    return torch.stack(outputs, 1), masks[1:]


def skip_clip(
    frames: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    gate: Gate,
    place: GatePlace,
    rule: str = 'previous',
) -> tuple[Tensor, list[Drawn]]:
    """Compute whole clips, whose first frame is the reference frame.

    They are differentiable: gradients reach the kernel, all frames and the
    gate.

    Args:
        frames: (B, T, C_in, ...).
        weight: Kernel (C_out, C_in / groups, ...).
        bias: (C_out,) or None.
        gate: The gate. It decides on all frames together or, for
            ``accumulated``, on one after the other.
        place: Where it decides; the geometry is the layer's.
        rule: ``previous`` takes residuals against the previous input,
            ``accumulated`` against the last transmitted one, as in
            :class:`SkipParams`.

    Returns:
        (B, T, C_out, ...), and what the gate decided.
    """
    if rule == 'accumulated':
        inputs, drawn = transmit_clip(frames, gate, place)
        output = convolve(inputs.flatten(0, 1), weight, bias, place.geometry)
        return output.unflatten(0, frames.shape[:2]), drawn
    return _clip_previous(frames, weight, bias, gate, place)


def transmit_clip(
    frames: Tensor, gate: Gate, place: GatePlace, start: Tensor | None = None
) -> tuple[Tensor, list[Drawn]]:
    """Find the inputs that frames stand for, with the accumulated memory.

    The convolution of them is the output of the clips.

    Args:
        frames: (B, T, C_in, ...).
        gate: The gate, which decides frame by frame.
        place: Where it decides.
        start: What was transmitted before the clips, (B, C_in, ...): there
            is no reference frame, and the gate decides T times. None: the
            first frame is the reference frame.

    Returns:
        (B, T, C_in, ...), and what the gate decided on all frames that were
        no reference frames, (frames * B, 1, ...).
    """
    inputs, *drawn = _Transmit.apply(
        gate, place, frames, start, *gate.weights()
    )
    return inputs, [Drawn(*drawn)] if drawn else []


class _Transmit(Function):
    """Transmits frame after frame where gates are open.

    Its backward goes through the frames once, from the last to the first. Of
    a frame it keeps what has one channel, and computes the residual again.
    Left to autograd, passes over maps of all channels, fresh memory for each
    of them, and a node for each of a gate's small steps take most of the time.
    """

    @staticmethod
    def forward(
        ctx: Any,
        gate: Gate,
        place: GatePlace,
        frames: Tensor,
        start: Tensor | None,
        *parameters: Tensor,
    ) -> tuple[Tensor, ...]:
        """Transmit the frames, and keep what gates decided on each."""
        inputs = torch.empty_like(frames)
        last, kept = start, []
        for at, frame in enumerate(frames.unbind(1)):
            sent = inputs[:, at]
            if last is None:
                sent.copy_(frame)
            else:
                residual = frame - last
                score = gate.score(residual, frame, place)
                decision = gate.decide(score)
                opening = Opening.of(decision.mask, place, frame.shape[2:])
                torch.addcmul(last, opening.whole, residual, out=sent)
                kept.append((score, decision, opening))
            last = sent
        ctx.save_for_backward(frames, inputs, start, *parameters)
        ctx.gate, ctx.place, ctx.kept = gate, place, kept
        ctx.set_materialize_grads(False)
        if not kept:
            return (inputs,)
        decisions = [decision for _, decision, _ in kept]
        mask = torch.cat([decision.mask for decision in decisions])
        probability = torch.cat([d.probability for d in decisions])
        return inputs, mask, probability

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Compute the gradients of the frames and of the gate's weights."""
        frames, inputs, start, *parameters = ctx.saved_tensors
        of_inputs, *of_drawn = grads
        turns = len(ctx.kept)
        of_drawn = [
            [None] * turns if g is None else g.chunk(turns) for g in of_drawn
        ]
        if of_inputs is None:
            of_inputs = torch.zeros_like(inputs)
        of_frames = torch.empty_like(frames)
        sums: list[Tensor | float] = [0.0] * len(parameters)
        references = frames.shape[1] - turns
        total = of_inputs[:, -1]
        for at in reversed(range(references, frames.shape[1])):
            frame, last = frames[:, at], inputs[:, at - 1] if at else start
            turn, own = at - references, of_frames[:, at]
            residual, (score, decision, opening) = frame - last, ctx.kept[turn]
            of_mask, of_probability = (g[turn] for g in of_drawn)
            if decision.soft is not None:
                opened = (total * residual).sum(1, keepdim=True)
                opened = opening.gradient(opened, ctx.place)
                of_mask = opened if of_mask is None else opened + of_mask
            of_score = ctx.gate.decide_gradient(
                score, decision, of_mask, of_probability
            )
            of_residual = of_frame = None
            if of_score is not None:
                of_residual, of_frame, *others = ctx.gate.score_gradient(
                    of_score, score, residual, frame, ctx.place
                )
                sums = [
                    a if b is None else a + b
                    for a, b in zip(sums, others, strict=True)
                ]
            if of_residual is None:
                torch.mul(total, opening.whole, out=own)
            else:
                torch.addcmul(of_residual, total, opening.whole, out=own)
            if at:
                total = (total - own).add_(of_inputs[:, at - 1])
            if of_frame is not None:
                own += of_frame
        if references:
            of_frames[:, 0] = total
        of_parameters = (s if torch.is_tensor(s) else None for s in sums)
        return None, None, of_frames, None, *of_parameters


def empty_memory(x: Tensor, output: Tensor, params: SkipParams) -> SkipMemory:
    """Make the memory of a site that the native backend will begin.

    Args:
        x: Input of the size that it will have.
        output: Output, the same.
        params: Parameters of the layer.
    """
    images = [
        torch.empty_like(image, memory_format=torch.channels_last)
        for image in (x, output)
    ]
    if not params.gate.relative:
        scale = gate_scale(params.gate, params.weight, params.geometry)
        return SkipMemory(*images, scale)
    return SkipMemory(*images, x.new_ones(len(x), 1, 1, 1), _no_counts(x))


def native_call(
    memory: SkipMemory, params: SkipParams, layers: LayerCache
) -> NativeCall:
    """Prepare the next frames of a call site, see :func:`skip_conv`.

    Args:
        memory: Memory of the site, in the native layout.
        params: Parameters of the layer.
        layers: Cache that keeps the native layer.
    """
    return NativeCall(params, layers.get(params), memory)


def _reference_frame(x, params, layers):
    """Compute a dense frame, after which there is something to skip."""
    weight, bias, geometry, gate = params[:4]
    layout = torch.preserve_format
    if layers is not None:
        layout = torch.channels_last
        x = x.contiguous(memory_format=layout)
        output = layers.get(params, check=True).convolve(x)
    else:
        output = convolve(x, weight, bias, geometry)
    mask = torch.ones_like(output[:, :1], dtype=torch.bool)
    images = _own(x, layout), _own(output, layout)
    if not gate.relative:
        scale = gate_scale(gate, weight, geometry)
        return output, mask, SkipMemory(*images, scale)
    signal = _signal_of(*images, gate)
    if layers is not None:
        # Its sums are rounded in their own way.
        scale = native.relative_scale(signal, layers.norms)
    else:
        scale = _fresh_scale(*images, params)
    return output, mask, SkipMemory(*images, scale, _no_counts(x))


def _signal_of(x, output, gate):
    """Choose between what is remembered for the level of a relative gate."""
    return x if gate.kind == 'input_norm' else output


def _fresh_scale(x, output, params):
    """Take the level of a relative gate from what is remembered."""
    weight, _, geometry, gate = params[:4]
    signal = _signal_of(x, output, gate)
    return relative_scale(signal, signal_norms(gate, weight, geometry))


def _no_counts(x):
    return torch.zeros(len(x), dtype=torch.int64, device=x.device)


def _follow_level(memory, mask, params):
    """Take a level anew where half of a frame's outputs were computed.

    So a first frame that is black, white or empty is forgotten, and day
    turns into night, without a pass over what did not change.
    """
    if memory.computed is None:
        return memory
    computed = memory.computed + mask.flatten(1).sum(1)
    due = 2 * computed >= mask[0].numel()
    fresh = _fresh_scale(memory.input, memory.output, params)
    scale = torch.where(due.view(fresh.shape), fresh, memory.scale)
    return memory._replace(scale=scale, computed=computed.where(~due, 0))


def _output_dtype(x: Tensor) -> torch.dtype:
    """Tell the dtype that a convolution of ``x`` returns."""
    kind = x.device.type
    if (
        x.dtype == torch.float64
        or not torch.amp.is_autocast_available(kind)
        or not torch.is_autocast_enabled(kind)
    ):
        return x.dtype
    return torch.get_autocast_dtype(kind)


def _channels_last(memory):
    """Lay memory out as the native backend updates it, in place."""
    layout = torch.channels_last
    if memory.input.is_contiguous(
        memory_format=layout
    ) and memory.output.is_contiguous(memory_format=layout):
        return memory
    images = [t.contiguous(memory_format=layout) for t in memory[:2]]
    return SkipMemory(*images, *memory[2:])


def _previous(x, memory, weight, bias, geometry, gate):
    """Compute Eq. 3 as printed: residual against x_{t-1}.

    What is exposed has no x_{t-1}: it is computed as in a reference frame.
    """
    residual = x - memory.input
    mask = _fires(residual, x, memory, weight, geometry, gate)
    if memory.exposed is not None:
        mask = block_mask(mask | memory.exposed, gate.block_size)
    change = convolve(residual, weight, None, geometry)
    output = memory.output + torch.where(mask, change, 0)
    if memory.exposed is not None:
        whole = convolve(x, weight, bias, geometry)
        output = torch.where(memory.exposed, whole, output)
    return output, mask, _own(x)


def _accumulated(x, memory, weight, bias, geometry, gate):
    """Compute by the residual against the last transmitted input.

    An input position is transmitted iff every output that reads it fires:
    the outputs it touches are then a subset of those that the gate fires,
    so nothing is computed that the gate left out. Computed outputs are written
    as the convolution of the transmitted input itself, not as a running
    sum: rounding errors do not build up either.
    """
    kernel_size = weight.shape[2:]
    residual = x - memory.input
    fired = _fires(residual, x, memory, weight, geometry, gate)
    if memory.exposed is not None:
        fired = block_mask(fired | memory.exposed, gate.block_size)
    silent = cover_sum(
        (~fired).to(x.dtype), kernel_size, geometry, x.shape[2:]
    )
    # Counts, compared half-way: not every algorithm gives exact integers.
    transmitted = silent < 0.5
    touched = support_sum(transmitted.to(x.dtype), kernel_size, geometry) > 0.5
    if memory.exposed is not None:
        touched = touched | memory.exposed
    mask = block_mask(touched, gate.block_size)
    reference = torch.where(transmitted, x, memory.input)
    dense = convolve(reference, weight, bias, geometry)
    return torch.where(mask, dense, memory.output), mask, reference


def _fires(residual, x, memory, weight, geometry, gate):
    """Decide which outputs the gate wants computed, in inference."""
    if gate.weight is None:
        return gate_mask(
            residual, memory.scale, weight.shape[2:], geometry, gate
        )
    # The rounded sigmoid of Eq. 8; a NaN is computed, not hidden.
    scale = None if gate.kind == 'learned' else memory.scale
    logits = gate_logits(residual, x, geometry, gate, scale)
    return block_mask(~(logits <= 0), gate.block_size)


def _own(tensor: Tensor, layout: torch.memory_format | None = None) -> Tensor:
    """Copy a tensor, out of reach of in-place operations of the caller."""
    return tensor.clone(memory_format=layout or torch.preserve_format)


def _clip_previous(
    frames: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    gate: Gate,
    place: GatePlace,
) -> tuple[Tensor, list[Drawn]]:
    """Convolve all residuals at once; the outputs are running sums."""
    residual = frames[:, 1:] - frames[:, :-1]
    pieces = torch.cat([frames[:, :1], residual], 1)
    change = convolve(pieces.flatten(0, 1), weight, None, place.geometry)
    change = change.unflatten(0, frames.shape[:2])
    first, later = change[:, :1], change[:, 1:]
    drawn = []
    if later.numel():
        scale = place.scale
        if scale.dim():  # one for each clip
            scale = scale.repeat_interleave(residual.shape[1], 0)
        place = place._replace(scale=scale)
        both = residual.flatten(0, 1), frames[:, 1:].flatten(0, 1)
        drawn.append(gate.draw(*both, place))
        later = drawn[0].mask.unflatten(0, residual.shape[:2]) * later
    output = torch.cat([first, later], 1).cumsum(1)
    if bias is not None:
        output = output + bias.view(-1, *[1] * (output.dim() - 3))
    return output, drawn

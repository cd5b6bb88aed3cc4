"""Gates decide from a residual which outputs are worth computing.

Skip-Convolutions for Efficient Video Processing (CVPR 2021), section 3.2:
gates on the norm of the residual have a threshold and no parameters
(Eq. 5 and 7), the learned one is a small convolution (section 3.2.2, Eq. 8).
The arithmetic that they share with the backends is in
:mod:`mmskip.skip_conv.gate_mask`. Symbols: N images, C_in and C_out channels,
K kernel positions.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from mmskip.native import address_of, convolve, fingerprint
from mmskip.registry import MODELS, build_own

from .gate_mask import (
    TINY,
    Drawn,
    Folding,
    GateParams,
    GatePlace,
    block_mask,
    draw_mask,
    drawn_gradient,
    gate_logits,
    gate_macs,
    gate_statistic,
    log_power,
    power_gradient,
)

BLOCK_SIZES = (1, 2, 4, 8)
GATE_INPUTS = ('residual', 'magnitude', 'square', 'frame')


class Gate(nn.Module):
    """Decides which outputs of a convolution are worth computing.

    Args:
        block_size: Outputs fire together in squares of 1, 2, 4 or 8.

    Raises:
        ValueError: Another block size.
    """

    kind: str
    # True if it has parameters, and draws its decisions in training.
    learns = False
    # True if it convolves, which costs MACs.
    has_kernel = False

    def __init__(self, block_size: int = 1) -> None:
        super().__init__()
        if block_size not in BLOCK_SIZES:
            raise ValueError(
                f'expected a block_size of {BLOCK_SIZES}, got {block_size!r}'
            )
        self.block_size = block_size

    def attach(self, conv: nn.Module) -> None:
        """Make what the gate needs for a convolution of this shape."""

    def params(self) -> GateParams:
        """Give the gate in the form that the operators take."""
        raise NotImplementedError

    def refresh(self) -> None:
        """Notice writes that went past torch's version counters."""

    def macs(
        self, input_shape: torch.Size, output_shape: torch.Size, kernel: int
    ) -> int:
        """Count the overhead of gating one batch, in MACs.

        Args:
            input_shape: (N, C_in, ...).
            output_shape: (N, C_out, ...).
            kernel: Number of kernel positions.
        """
        raise NotImplementedError

    def score(
        self, residual: Tensor, frame: Tensor, place: GatePlace
    ) -> Tensor:
        """Tell in training how much outputs are worth computing.

        Args:
            residual: (N, C_in, ...).
            frame: The frame it leads to, (N, C_in, ...).
            place: Where the gate decides.

        Returns:
            (N, 1, ...) of the output's size; outputs above 0 fire in
            inference. Gradients reach learned gates.
        """
        raise NotImplementedError

    def score_gradient(
        self,
        grad: Tensor,
        score: Tensor,
        residual: Tensor,
        frame: Tensor,
        place: GatePlace,
    ) -> list[Tensor | None]:
        """Compute the gradients of what scores were made of.

        Args:
            grad: Gradient of the scores.
            score: The scores.
            residual: See :meth:`score`; the others, too.
            frame: The same.
            place: The same.

        Returns:
            Those of the residual, of the frame and of the gate's parameters,
            or None.
        """
        sources = [
            residual.requires_grad_(),
            frame.detach().requires_grad_(),
            *self.weights(),
        ]
        with torch.enable_grad():
            score = self.score(*sources[:2], place)
        wanted = [source for source in sources if source.requires_grad]
        found = torch.autograd.grad(score, wanted, grad, allow_unused=True)
        grads = iter(found)
        return [next(grads) if s.requires_grad else None for s in sources]

    def weights(self) -> tuple[Tensor, ...]:
        """Give the parameters: of this module, which has no others."""
        return tuple(p for p in self._parameters.values() if p is not None)

    def decide(self, score: Tensor) -> Drawn:
        """Decide in training by what :meth:`score` returned."""
        raise NotImplementedError

    def decide_gradient(
        self,
        score: Tensor,
        drawn: Drawn,
        of_mask: Tensor | None,
        of_probability: Tensor | None,
    ) -> Tensor | None:
        """Compute the gradient of the scores, None if they have none.

        Args:
            score: The scores.
            drawn: What :meth:`decide` returned for them.
            of_mask: Gradient of the mask, or None.
            of_probability: Gradient of the probability, or None.
        """
        if not self.learns:
            return None
        return drawn_gradient(
            score, drawn, self.block_size, of_mask, of_probability
        )

    def draw(self, residual: Tensor, frame: Tensor, place: GatePlace) -> Drawn:
        """Score and decide, with gradients; see :meth:`score`."""
        score = self.score(residual, frame, place)
        return Drawn(*_Decide.apply(score, self))


class _Decide(Function):
    """Gives a gate's decisions the gradients that the gate tells."""

    @staticmethod
    def forward(ctx: Any, score: Tensor, gate: Gate) -> tuple[Tensor, Tensor]:
        drawn = gate.decide(score)
        ctx.save_for_backward(score)
        ctx.gate, ctx.drawn = gate, drawn
        ctx.set_materialize_grads(False)
        # Others than those that are kept: no cycle.
        return drawn.mask.detach(), drawn.probability.detach()

    @staticmethod
    def backward(
        ctx: Any, of_mask: Tensor | None, of_probability: Tensor | None
    ) -> tuple[Tensor | None, None]:
        (score,) = ctx.saved_tensors
        return ctx.gate.decide_gradient(
            score, ctx.drawn, of_mask, of_probability
        ), None


def as_gate(gate: dict | Gate) -> Gate:
    """Make the gate that an option asks for.

    Args:
        gate: Config of a gate, or a gate.

    Raises:
        ValueError: It is something else.
    """
    built = build_own(gate) if isinstance(gate, dict) else gate
    if not isinstance(built, Gate):
        raise ValueError(
            f'expected gate to be a gate or its config, got {gate!r}'
        )
    return built


class NormGate(Gate):
    """Fires where the residual is large; it has no parameters.

    Args:
        threshold: The margin epsilon, shared by all layers of a model. The
            gate fires iff its statistic is larger. Below 0 it is always
            open.
        block_size: Outputs fire together in squares of 1, 2, 4 or 8.
        order: Order p of the norm, 1 (the paper) or 2.
        relative: Take the threshold as a share of what the picture makes
            of the layer's own signal: of how much neighbours in a row
            differ, see :func:`mmskip.skip_conv.relative_scale`. So one value
            suits all layers and models, by day and by night, where nearly
            all of a signal is an offset that says nothing. It is taken in
            the reference frame, and anew whenever half as many outputs were
            computed as a frame has: a first frame that is black, white or
            empty is forgotten by then, and so is the day at night. Ours;
            the paper's thresholds are absolute.

    Attributes:
        folded: The normalisation that was folded into the layer, which
            thresholds ignore.

    Raises:
        ValueError: An option is not one of the above.
    """

    def __init__(
        self,
        threshold: float,
        block_size: int = 1,
        order: int = 1,
        relative: bool = False,
    ) -> None:
        super().__init__(block_size)
        if order not in (1, 2):
            raise ValueError(f'expected order 1 or 2, got {order!r}')
        self.threshold = float(threshold)
        self.order = order
        self.relative = relative
        self.folded: Folding | None = None
        self._params: GateParams | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        self.__dict__['_params'] = None

    def params(self) -> GateParams:
        """Give the gate in the form that the operators take.

        It is the same object as the last time if nothing was set since.
        """
        if self._params is None:
            self.__dict__['_params'] = GateParams(
                self.kind,
                self.threshold,
                self.block_size,
                self.order,
                self.relative,
                folded=self.folded,
            )
        return self._params

    def macs(
        self, input_shape: torch.Size, output_shape: torch.Size, kernel: int
    ) -> int:
        """Count the overhead of a batch; see :func:`.gate_mask.gate_macs`."""
        return gate_macs(input_shape, output_shape, kernel)

    def score(
        self, residual: Tensor, frame: Tensor, place: GatePlace
    ) -> Tensor:
        """Compare the statistic to the threshold, which does not learn."""
        statistic = gate_statistic(
            residual.detach(),
            place.scale,
            place.kernel_size,
            place.geometry,
            self.order,
        )
        return statistic - self.params().threshold

    def decide(self, score: Tensor) -> Drawn:
        """Decide as in inference, see :func:`.gate_mask.gate_mask`."""
        mask = block_mask(~(score <= 0), self.block_size).to(score.dtype)
        return Drawn(mask, mask)

    def extra_repr(self) -> str:
        return (
            f'threshold={self.threshold}, block_size={self.block_size}, '
            f'order={self.order}, relative={self.relative}'
        )


@MODELS.register_module()
class InputNormGate(NormGate):
    """Fires on the mean absolute residual in the kernel's support (Eq. 5).

    The threshold is in units of the layer's input. The paper's norm is a
    sum over the support; the mean lets one threshold suit all layers.
    """

    kind = 'input_norm'


@MODELS.register_module()
class OutputNormGate(NormGate):
    """Fires on a bound of the change of the output (Eq. 7).

    It is the norm of the residual times the norm of the kernel, normalised to
    estimate the mean absolute change of one output channel. The threshold
    is in units of the layer's output before its normalisation.
    """

    kind = 'output_norm'


@MODELS.register_module()
class LearnedNormGate(NormGate):
    """A norm gate whose threshold is learned in clips.

    Ours: between the norm gates of the paper, which share one threshold that
    somebody chooses, and its learned ones, which cost a convolution. The
    score of an output is the logarithm of its statistic over the threshold,
    times ``sharpness``; in training decisions are drawn with its sigmoid as
    the probability, in inference the gate is a plain norm gate, and costs
    what that costs.

    Args:
        threshold: Where the threshold starts, above 0.
        norm: ``output`` to be an :class:`OutputNormGate`, ``input`` to be an
            :class:`InputNormGate`.
        block_size: Outputs fire together in squares of 1, 2, 4 or 8.
        order: Order p of the norm, 1 or 2.
        relative: Take the threshold as a share of the layer's own signal,
            see :class:`NormGate`.
        sharpness: A statistic that is e times the threshold fires with the
            probability ``sigmoid(sharpness)``.
        temperature: Temperature of the relaxation, see :class:`GumbelGate`.

    Raises:
        ValueError: An option is out of range.
    """

    learns = True

    def __init__(
        self,
        threshold: float,
        norm: str = 'output',
        block_size: int = 1,
        order: int = 1,
        relative: bool = False,
        sharpness: float = 4.0,
        temperature: float = 2 / 3,
    ) -> None:
        super().__init__(threshold, block_size, order, relative)
        if norm not in ('input', 'output'):
            raise ValueError(
                f"expected norm to be 'input' or 'output', got {norm!r}"
            )
        self.kind = f'{norm}_norm'
        for name, value in (
            ('threshold', threshold),
            ('sharpness', sharpness),
            ('temperature', temperature),
        ):
            if not value > 0:
                raise ValueError(f'expected {name} > 0, got {value!r}')
        self.sharpness = float(sharpness)
        self.temperature = float(temperature)
        # The threshold is exp(log_factor) times the one it starts with.
        self.log_factor = nn.Parameter(torch.zeros(()))
        self._version: tuple | None = None
        self._values: tuple | None = None

    def learned_threshold(self) -> float:
        """Give the threshold as it is now."""
        return self.threshold * math.exp(self.log_factor.item())

    def params(self) -> GateParams:
        """Give the gate in the form that the operators take."""
        version = self._versions()
        if self._params is None or version != self._version:
            self.__dict__['_version'] = version
            self.__dict__['_values'] = self._read_values()
            self.__dict__['_params'] = self._make_params()
        return self._params

    def _versions(self) -> tuple:
        return self.log_factor._version, address_of(self.log_factor)

    def _read_values(self) -> tuple | None:
        # Values elsewhere are not read: that would wait for the device.
        return (self.log_factor.item(),) if self.log_factor.is_cpu else None

    def _make_params(self) -> GateParams:
        return GateParams(
            self.kind,
            self.learned_threshold(),
            self.block_size,
            self.order,
            self.relative,
            folded=self.folded,
        )

    def plain(self) -> NormGate:
        """Make the norm gate that this one is in inference."""
        kind = InputNormGate if self.kind == 'input_norm' else OutputNormGate
        gate = kind(
            self.params().threshold,
            self.block_size,
            self.order,
            self.relative,
        )
        gate.folded = self.folded
        return gate

    def refresh(self) -> None:
        """Notice writes that went past torch's version counters."""
        if self._params is not None and self._values != self._read_values():
            self.__dict__['_params'] = None

    def score(
        self, residual: Tensor, frame: Tensor, place: GatePlace
    ) -> Tensor:
        """Take the logarithm of the statistic over the threshold."""
        power = self._log_power(residual, place)
        factor = self.sharpness / self.order
        return torch.add(self._offset(place), power, alpha=factor)

    def score_gradient(
        self,
        grad: Tensor,
        score: Tensor,
        residual: Tensor,
        frame: Tensor,
        place: GatePlace,
    ) -> list[Tensor | None]:
        """See :meth:`Gate.score_gradient`; the power follows from scores."""
        factor = self.sharpness / self.order
        power = (score - self._offset(place)).div_(factor).exp_()
        of_residual = power_gradient(
            grad.div(power).mul_(factor),
            residual,
            place.kernel_size,
            place.geometry,
            self.order,
        )
        of_factor = None
        if self.log_factor.requires_grad:
            of_factor = grad.sum() * -self.sharpness
        return [of_residual, None, of_factor]

    def _offset(self, place: GatePlace) -> Tensor:
        """Compute what is added to the power, for each stream."""
        level = place.scale.log() - self.log_factor
        return self.sharpness * (level - math.log(self.threshold))

    def decide(self, score: Tensor) -> Drawn:
        """Draw decisions, or decide as in inference if it is frozen."""
        learns = self.log_factor.requires_grad
        temperature = self.temperature if learns else None
        return draw_mask(score, self.block_size, temperature)

    def _log_power(self, residual: Tensor, place: GatePlace) -> Tensor:
        return log_power(
            residual, place.kernel_size, place.geometry, self.order
        )


@MODELS.register_module()
class GumbelNormGate(LearnedNormGate):
    """A Gumbel gate that begins as a norm gate.

    Ours: a norm gate weighs all channels and all places of its kernel alike;
    this one learns what they are worth. Its score is that of Eq. 8 on the
    magnitude of the residual (order 1) or its square (order 2), with a
    kernel (1, C_in, ...) above 0 and the threshold, to the power of the
    order, as the negative bias. A kernel of ones makes it the norm gate, up
    to rounding. It costs what a :class:`GumbelGate` costs.

    In training the logarithm of the score is drawn from, as in
    :class:`LearnedNormGate`, and it is the logarithm of the kernel that
    learns: one rate suits it and the threshold. See there for the options.
    """

    has_kernel = True

    def attach(self, conv: nn.Module) -> None:
        """Make the logarithm of the gate's kernel (1, C_in, ...)."""
        shape = _kernel_shape(conv)
        self.log_kernel = nn.Parameter(conv.weight.new_zeros(shape))
        # Outputs of a transposed convolution read a part of it each.
        phases = (
            math.prod(conv.stride) if getattr(conv, 'transposed', False) else 1
        )
        self._reads = self.log_kernel.numel() / phases

    def macs(
        self, input_shape: torch.Size, output_shape: torch.Size, kernel: int
    ) -> int:
        """Count the overhead: a convolution with one output channel."""
        return _kernel_macs(input_shape, output_shape, kernel)

    def plain(self) -> NormGate:
        """Make the threshold what was learned, in place."""
        self.threshold = self.learned_threshold()
        with torch.no_grad():
            self.log_factor.zero_()
        return self

    def _versions(self) -> tuple:
        kernel = self.log_kernel
        return *super()._versions(), kernel._version, address_of(kernel)

    def _read_values(self) -> tuple | None:
        values = super()._read_values()
        if values is not None:
            values = *values, fingerprint(self.log_kernel)
        return values

    def _make_params(self) -> GateParams:
        params = super()._make_params()
        weight = self._kernel().detach()
        return params._replace(
            threshold=0.0,
            gate_input='square' if self.order == 2 else 'magnitude',
            weight=weight,
            bias=weight.new_full((1,), -(params.threshold**self.order)),
        )

    def score_gradient(self, *sources: Any) -> list[Tensor | None]:
        """See :meth:`Gate.score_gradient`; the kernel learns, too."""
        return Gate.score_gradient(self, *sources)

    def _log_power(self, residual: Tensor, place: GatePlace) -> Tensor:
        power = residual.square() if self.order == 2 else residual.abs()
        geometry = place.geometry._replace(groups=1)
        return (convolve(power, self._kernel(), None, geometry) + TINY).log()

    def _kernel(self) -> Tensor:
        return self.log_kernel.exp() / self._reads


@MODELS.register_module()
class GumbelGate(Gate):
    """Decides by a one-channel convolution on the residual (Eq. 8).

    It has its layer's kernel, stride, padding and dilation. In training its
    decisions are drawn, with straight-through gradients; in inference the
    sigmoid is rounded. It starts open everywhere: in inference the converted
    model equals the dense one.

    It learns whenever its model does, whatever the host freezes with its
    layer (``frozen_stages``). One that is frozen alone
    (``gate.requires_grad_(False)``) decides in training as in inference.

    Ours: the kernel is kept as multiples of ``sensitivity / (C_in * K)``, so
    that one learning rate suits layers of all sizes, and it starts at 1 if
    the gate input is a magnitude or a square (a norm gate that is still open),
    else at 0.

    Args:
        bias: Initial bias; an output starts open with the probability
            ``sigmoid(bias)``. Ours (0.6 in the official code).
        temperature: Temperature of the relaxation; 2 / 3 in the official code.
        block_size: Outputs fire together in squares of 1, 2, 4 or 8.
        gate_input: ``residual`` (the paper), its ``magnitude`` (the official
            code) or ``square``, or the ``frame`` (the paper's
            conditional-computation baseline, section 4.2).
        sensitivity: Score of a residual of mean magnitude 1 through a kernel
            of ones. Ours.

    Raises:
        ValueError: An option is out of range.
    """

    kind = 'learned'
    learns = True
    has_kernel = True

    def __init__(
        self,
        bias: float = 2.0,
        temperature: float = 2 / 3,
        block_size: int = 1,
        gate_input: str = 'residual',
        sensitivity: float = 20.0,
    ) -> None:
        super().__init__(block_size)
        if not temperature > 0:
            raise ValueError(f'expected temperature > 0, got {temperature!r}')
        if not bias > 0:
            raise ValueError(
                f'expected bias > 0, got {bias!r}: the gate has to start open'
            )
        if not sensitivity > 0:
            raise ValueError(f'expected sensitivity > 0, got {sensitivity!r}')
        if gate_input not in GATE_INPUTS:
            raise ValueError(
                f'expected gate_input to be one of {GATE_INPUTS}, got '
                f'{gate_input!r}'
            )
        self.initial_bias = float(bias)
        self.temperature = float(temperature)
        self.gate_input = gate_input
        self.sensitivity = float(sensitivity)
        self.register_parameter('weight', None)
        self.register_parameter('bias', None)
        self._kept: tuple[tuple, Tensor, GateParams] | None = None
        self._fingerprint = 0

    def attach(self, conv: nn.Module) -> None:
        """Make the gate's kernel (1, C_in, ...) and bias (1,)."""
        shape = _kernel_shape(conv)
        start = float(self.gate_input in ('magnitude', 'square'))
        self.weight = nn.Parameter(conv.weight.new_full(shape, start))
        self.bias = nn.Parameter(conv.weight.new_full((1,), self.initial_bias))

    def params(self) -> GateParams:
        """Give the gate in the form that the operators take.

        Without gradients it is the same object as the last time if nothing
        was written since (past torch's version counters: until
        :meth:`refresh`).
        """
        if torch.is_grad_enabled() or self.weight.is_inference():
            return self._scaled()
        key = (
            self.weight._version,
            address_of(self.weight),
            address_of(self.bias),
            self.block_size,
            self.gate_input,
            self.sensitivity,
        )
        if self._kept is None or self._kept[0] != key:
            # The weight is kept, so that no other can get its address.
            self._kept = key, self.weight.detach(), self._scaled()
            if self.weight.is_cpu:
                self._fingerprint = fingerprint(self.weight)
        return self._kept[2]

    def refresh(self) -> None:
        """Notice writes that went past torch's version counters."""
        weight = self.weight
        # Values elsewhere are not read: that would wait for the device.
        if not weight.is_cpu or self._fingerprint != fingerprint(weight):
            self._kept = None

    def _scaled(self) -> GateParams:
        return GateParams(
            self.kind,
            0.0,
            self.block_size,
            gate_input=self.gate_input,
            weight=self.weight * (self.sensitivity / self.weight.numel()),
            bias=self.bias,
        )

    def macs(
        self, input_shape: torch.Size, output_shape: torch.Size, kernel: int
    ) -> int:
        """Count the overhead: a convolution with one output channel."""
        return _kernel_macs(input_shape, output_shape, kernel)

    def score(
        self, residual: Tensor, frame: Tensor, place: GatePlace
    ) -> Tensor:
        """Convolve the gate input, before the sigmoid of Eq. 8."""
        return gate_logits(residual, frame, place.geometry, self.params())

    def decide(self, score: Tensor) -> Drawn:
        """Draw decisions, or decide as in inference if it is frozen.

        Blocks share the largest of their scores: the mask of Eq. 8 pooled,
        with one draw per block.
        """
        learns = self.weight.requires_grad
        temperature = self.temperature if learns else None
        return draw_mask(score, self.block_size, temperature)

    def extra_repr(self) -> str:
        return (
            f'temperature={self.temperature:.3g}, '
            f'block_size={self.block_size}, '
            f'gate_input={self.gate_input!r}'
        )


def _kernel_shape(conv: nn.Module) -> tuple[int, ...]:
    # A linear layer is a convolution with a kernel of one position.
    return 1, conv.in_channels, *(conv.weight.shape[2:] or (1, 1))


def _kernel_macs(
    input_shape: torch.Size, output_shape: torch.Size, kernel: int
) -> int:
    positions = output_shape[0] * output_shape[2:].numel()
    return positions * input_shape[1] * kernel

"""The base of converted layers: how they run, count, learn and lie in memory.

Gates make binary decisions with gradients: Skip-Convolutions (CVPR 2021),
Eq. 8; the relaxation is the binary Concrete distribution of Maddison et al.
and Jang et al. (ICLR 2017). VA-RED^2 (B. Pan, MIT, 2023), Eq. 3.4.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function

from mmskip.reading import InputError

#: Modules that learn and that conversions add to layers.
ADDED = frozenset({'gate', 'cheap'})
#: By the number of dimensions.
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
#: Layers that only convolve with their kernel; others may read it as it lies.
_PLAIN = {
    'torch.nn.modules.conv': ('Conv2d', 'ConvTranspose2d'),
    'mmcv.cnn.bricks.wrappers': ('Conv2d', 'ConvTranspose2d'),
    'mmcv.cnn.bricks.conv2d_adaptive_padding': ('Conv2dAdaptivePadding',),
}

#: Numbers of a network's input that run together, frames and clips, of which
#: the first layers make 5 and 12 times as many: results of more do not stay in
#: the caches of a CPU, and those above 32 MiB the C library takes from the
#: system anew each time, page by page.
TOGETHER = {3: 1 << 20, 4: 1 << 19}

Result = Tensor | tuple[Tensor, ...] | list[Tensor]


class CountedWhole(nn.Module):
    """Reports its own MACs, and those of the modules in it.

    ``_ledger`` (set by ``count_macs``) is there only inside that block;
    copies and pickles of the module leave it behind.
    """

    _ledger: Any = None

    def __getstate__(self) -> dict:
        state = self.__dict__.copy()
        state.pop('_ledger', None)
        return state


class Converted:
    """Marks a layer that a conversion made and that can become plain again."""

    def revert(self) -> None:
        """Give the layer back that was converted, in place."""
        raise NotImplementedError

    def why_final(self) -> str | None:
        """Say why there is no way back from this layer, None if there is."""
        return None

    def native_refusal(self) -> str | None:
        """Say why the native backend, if it is for this layer, refuses it."""
        return None


class SelfCounting(CountedWhole):
    """Runs a layer under a binding, if there is one, and reports its own MACs.

    ``_binding`` (set by ``stream`` and ``clip``) is there only inside those
    blocks; copies and pickles of the layer leave it behind.
    """

    _binding: Any = None

    def __getstate__(self) -> dict:
        state = super().__getstate__()
        state.pop('_binding', None)
        return state


def follow_mode(layer: nn.Module, training: bool) -> None:
    """Let what was added to a layer learn whenever the model does.

    Hosts freeze stages (``frozen_stages``) by setting them to eval mode and
    all parameters in them to need no gradients, at each ``train()``. That is
    meant for weights that are pretrained, and not for gates. What is frozen
    while the layer's own weight is not stays so.

    Args:
        layer: A converted layer.
        training: True if the model is in training mode.
    """
    layer.train(training)
    if training and not layer.weight.requires_grad:
        for name in ADDED & layer._modules.keys():
            layer._modules[name].requires_grad_(True)


def dense_macs(conv: nn.Module, output_shape: torch.Size) -> int:
    """Count the MACs of a convolution with an output of shape (N, C, ...).

    Positions x C_out x C_in / groups x K; padded taps count, bias does not.
    The outputs of a transposed one share the K positions of its kernel out
    among as many of them as its stride says.
    """
    if getattr(conv, 'transposed', False):
        positions = output_shape.numel() // conv.out_channels
        return positions * conv.weight.numel() // math.prod(conv.stride)
    return output_shape.numel() * conv.weight[0].numel()


class GateCost(NamedTuple):
    """Holds the MACs of a layer on the frames after the reference frame.

    Attributes:
        dense: MACs with all gates open.
        expected: Share of ``dense`` by the gates' probabilities, a scalar
            with gradients.
        hard: Share of ``dense`` by the decisions that were drawn, a scalar.
    """

    dense: int
    expected: Tensor
    hard: Tensor

    @classmethod
    def of(cls, dense: int, drawn: list[tuple[Tensor, Tensor]]) -> 'GateCost':
        """Average the masks and probabilities of a clip's frames."""
        if not drawn:  # a reference frame, and no more
            return cls(0, torch.zeros(()), torch.zeros(()))
        masks, probabilities, *_ = zip(*drawn, strict=True)
        return cls(
            dense,
            torch.stack([p.mean() for p in probabilities]).mean(),
            torch.stack([m.detach().mean() for m in masks]).mean(),
        )

    @staticmethod
    def total(costs: list['GateCost']) -> tuple[Tensor, Tensor]:
        """Average the expected and the hard share over costs, by MACs."""
        dense = max(sum(cost.dense for cost in costs), 1)
        return (
            sum(cost.dense / dense * cost.expected for cost in costs),
            sum(cost.dense / dense * cost.hard for cost in costs),
        )


class CostCollector:
    """Collects what layers cost in a forward in training, by hooks.

    Args:
        loss: Takes the costs, and gives entries for a dict of losses.
        kind: Class of the layers, which append to their ``_costs``.
        name: Words for one of them, for the message.
    """

    def __init__(self, loss: nn.Module, kind: type, name: str) -> None:
        self.loss = loss
        self._kind = kind
        self._name = name

    def layers(self, model: nn.Module) -> list[nn.Module]:
        """Find the layers of a model, in order of definition."""
        return [m for m in model.modules() if isinstance(m, self._kind)]

    def begin(self, model: nn.Module, inputs: tuple) -> None:
        """Let the layers append to a new list, if the model trains."""
        costs: list[Any] | None = [] if model.training else None
        for layer in self.layers(model):
            layer._costs = costs
            follow_mode(layer, model.training)

    def take(self, model: nn.Module, output: Any) -> list[Any] | None:
        """Take the list away from the layers.

        Returns:
            None if the model's output is no dict of losses.

        Raises:
            InputError: None of the layers ran.
        """
        layers = self.layers(model)
        costs = layers[0]._costs
        for layer in layers:
            layer._costs = None
        if not model.training or not isinstance(output, dict):
            return None
        if not costs:
            raise InputError(
                f'expected {self._name} to run in training, got none: the '
                "model's forward called none of its layers"
            )
        return costs


def follow_layout(output: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Lay an output out in memory as torch's convolution would.

    What comes behind a layer may ask for contiguous memory, as ``view``
    does, or read it as such without asking: mmcv's operators do.

    Args:
        output: Output (N, C_out, ...) of a 2-D or 3-D convolution.
        x: Input of the convolution.
        weight: Kernel of the convolution.

    Returns:
        The output, channels last if the input or the kernel is, and else
        contiguous.
    """
    layout = torch.contiguous_format
    if is_channels_last(x) or is_channels_last(weight):
        layout = _CHANNELS_LAST[output.dim()]
    return output.contiguous(memory_format=layout)


def is_channels_last(tensor: Tensor) -> bool:
    """Tell if the channels of a position lie side by side, others apart.

    It is not true of tensors with one channel, which lie both ways.

    Args:
        tensor: (N, C, H, W) or (N, C, T, H, W), with any strides; of others
            it is not true.
    """
    return (
        tensor.dim() in _CHANNELS_LAST
        and tensor.stride(1) == 1
        and tensor.stride(-1) >= tensor.shape[1] > 1
    )


def lay_kernels_last(model: nn.Module) -> None:
    """Lay the kernels of 2-D convolutions channels last, in place.

    Activations follow the kernels. Other weights stay: mmcv's weight
    standardisation views kernels as vectors, deformable convolutions read
    contiguous ones.

    Args:
        model: Any model; its parameters stay the same objects.
    """
    for module in model.modules():
        kernel = module._parameters.get('weight')
        if kernel is not None and kernel.dim() == 4 and _is_plain(module):
            kernel.data = kernel.data.contiguous(
                memory_format=torch.channels_last
            )


def in_turns(
    run: Callable[[Tensor], Result], x: Tensor, samples: int
) -> Result:
    """Run a part of a network on a few samples at a time.

    Args:
        run: The part; it treats each sample by itself.
        x: (N, ...).
        samples: Most samples that run together.

    Returns:
        Result (N, ...) of the part, or several, in the layout that they have.
    """
    if len(x) <= samples:
        return run(x)
    results = [run(turn) for turn in x.chunk(-(-len(x) // samples))]
    if isinstance(results[0], Tensor):
        return torch.cat(results)
    joined = map(torch.cat, zip(*results, strict=True))
    return type(results[0])(joined)


def samples_together(shape: Sequence[int]) -> int:
    """Tell how many samples should run together on a CPU.

    Args:
        shape: Shape of one input of the network, a frame (C, H, W) or a clip
            (C, T, H, W).
    """
    return max(TOGETHER[len(shape)] // max(math.prod(shape), 1), 1)


def _is_plain(module: nn.Module) -> bool:
    kind = type(module)
    names = _PLAIN.get(kind.__module__, ())
    return isinstance(module, Converted) or kind.__name__ in names


_sigmoid_backward = torch.ops.aten.sigmoid_backward.default


def sample_gate(logits: Tensor, temperature: float) -> Tensor:
    """Draw 1 with probability ``sigmoid(logits)``, else 0.

    Logistic noise, the difference of two Gumbel samples, keeps the draw
    unbiased (a single Gumbel sample, as in the official code, does not).
    With ``soft = sigmoid((logits + noise) / temperature)`` the gradient with
    respect to the logits is ``soft * (1 - soft) / temperature``.

    Args:
        logits: Any shape.
        temperature: Temperature of the relaxation; the probabilities do not
            depend on it.

    Returns:
        Exactly 0 or 1, of the shape and dtype of ``logits``.
    """
    return draw_gate(logits, temperature)[0]


def draw_gate(logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Draw as :func:`sample_gate`, and tell the probabilities.

    Args:
        logits: Any shape.
        temperature: Temperature of the relaxation.

    Returns:
        The decisions, and ``sigmoid(logits)``; both have gradients.
    """
    soft = relax_gate(logits.detach(), temperature)
    return _StraightThrough.apply(logits, soft, temperature)


def relax_gate(logits: Tensor, temperature: float) -> Tensor:
    """Draw relaxed decisions; those above 1/2 are 1, the others 0.

    Args:
        logits: Any shape, without gradients.
        temperature: Temperature of the relaxation.

    Returns:
        Between 0 and 1, of the shape and dtype of ``logits``.
    """
    limits = torch.finfo(logits.dtype)
    uniform = torch.rand_like(logits).clamp_(limits.tiny, 1 - limits.eps)
    return uniform.logit_().add_(logits).div_(temperature).sigmoid_()


def gate_gradient(
    soft: Tensor,
    probability: Tensor,
    temperature: float,
    grad: Tensor,
    grad_probability: Tensor,
) -> Tensor:
    """Compute the gradient of the logits of :func:`draw_gate`.

    Args:
        soft: What :func:`relax_gate` drew.
        probability: The sigmoid of the logits.
        temperature: Temperature of the relaxation.
        grad: Gradient of the decisions.
        grad_probability: That of the probability.
    """
    total = _sigmoid_backward(grad_probability, probability)
    return total.add_(_sigmoid_backward(grad, soft), alpha=1 / temperature)


def straight_through(value: Tensor, surrogate: Tensor) -> Tensor:
    """Return ``value``, with the gradient of ``surrogate``."""
    return value.detach() + (surrogate - surrogate.detach())


def open_gate(logits: Tensor, leak: float = 0.0) -> Tensor:
    """Compute the output activation of VA-RED^2's gate, ``max(tanh(x), 0)``.

    Ours: with ``leak`` a closed option (0, where the true gradient is 0)
    gets that share of a gradient which would open it, and none that would
    close it further.

    Args:
        logits: Any shape.
        leak: 0 gives the exact gradient.

    Returns:
        In [0, 1), of the shape of ``logits``.
    """
    if not (torch.is_grad_enabled() and logits.requires_grad):
        return logits.tanh().clamp(min=0)
    return _OpenGate.apply(logits, leak)


class _StraightThrough(Function):
    """Gives the hard decision forward, the gradient of the soft one back."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, soft: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        probability = logits.sigmoid()
        ctx.save_for_backward(soft, probability)
        ctx.temperature = temperature
        return soft.round(), probability

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor, grad_probability: Tensor
    ) -> tuple[Tensor, None, None]:
        soft, probability = ctx.saved_tensors
        grad = gate_gradient(
            soft, probability, ctx.temperature, grad, grad_probability
        )
        return grad, None, None


class _OpenGate(Function):
    """Computes ``max(tanh(x), 0)``, and lets closed gates open again."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, leak: float) -> Tensor:
        activated = logits.tanh()
        ctx.save_for_backward(activated)
        ctx.leak = leak
        return activated.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (activated,) = ctx.saved_tensors
        # Descent along a negative gradient opens.
        closed = grad.clamp(max=0) * ctx.leak
        grad = torch.where(activated > 0, grad, closed)
        return grad * (1 - activated.square()), None

"""``SkipConversion``: which layers become Skip-Convolutions, and their loss.

The loss makes gates close, Eq. 9 of Skip-Convolutions (CVPR 2021):
:class:`GateCostLoss` reads what the gates of a clip cost. Where activations
are computed anew in the backward, :class:`LateCosts` brings the gradient of
the loss to the gates.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.autograd import Function

from mmskip.core import ConvConversion, GateCost, SelfCounting, refuse_unknown
from mmskip.core.convert import ROI_REASON
from mmskip.reading import InputError
from mmskip.registry import MODELS, build_own

from .attention import (
    SkipAttentionMixin,
    SkipMultiheadAttention,
    attention_refusal,
    find_attention,
    find_unread_weights,
    multiplies_tokens,
    skip_class,
)
from .gates import as_gate
from .layer import SKIP_CLASSES, SkipConvMixin
from .linear import (
    LAYERS,
    SKIP_LINEAR_CLASSES,
    SKIP_TRANSPOSED_CLASSES,
    SkipLinearApart,
    transposed_refusal,
    weights_read_apart,
)
from .native_layer import MEMORY_RULES

COSTLY_REASON = (
    'depthwise: a learned gate would cost as much as the layer (a norm gate '
    'would not)'
)
LINEAR_REASON = 'a linear layer (linear=True converts it)'


@MODELS.register_module()
class SkipConversion(ConvConversion):
    """Converts convolutions, and linear layers over tokens, in place.

    Args:
        gate: Config of the gate; every layer gets its own.
        memory: ``previous`` (the paper) or ``accumulated``.
        roi_heads: Also convert layers inside RoI heads.
        motion: Config of an estimator of the camera's motion, e.g.
            ``dict(type='HomographyMotion')``. In streams, what a layer
            remembers then moves with the picture before the residual is
            taken; see :mod:`mmskip.skip_conv.motion`. In inference, frame by
            frame, on the torch reference. Interpolating motion needs
            ``accumulated`` memory, which computes what fires from the whole
            input: under ``previous`` what interpolation does to an output
            would stay in it.
        thresholds: Threshold of each layer that is to be converted, by name,
            in place of that of the gate, as ``mmskip tune`` and
            ``mmskip calibrate`` write them.
        linear: Also convert linear layers, to :class:`SkipLinear`, and the
            projections of torch's ``MultiheadAttention``, which is meant as
            a whole: ``include`` and ``exclude`` are for its own name.

    Raises:
        ValueError: An option is out of range.
    """

    def __init__(
        self,
        gate: dict,
        memory: str = 'previous',
        roi_heads: bool = False,
        motion: dict | None = None,
        thresholds: dict | None = None,
        linear: bool = False,
    ) -> None:
        if memory not in MEMORY_RULES:
            raise ValueError(
                f'expected memory to be one of {MEMORY_RULES}, got {memory!r}'
            )
        self.layers = thresholds or {}
        # A faulty gate is reported before a model changes.
        configs = [dict(gate, threshold=t) for t in self.layers.values()]
        gates = [as_gate(config) for config in configs or [gate]]
        self.adds_parameters = any(gate.learns for gate in gates)
        self._is_costly = any(gate.has_kernel for gate in gates)
        self.gate = gate
        self.memory = memory
        self.roi_heads = roi_heads
        self.motion = None if motion is None else build_own(motion)
        interpolates = getattr(self.motion, 'interpolate', False)
        if interpolates and memory != 'accumulated':
            raise ValueError(
                "expected memory='accumulated' with motion that "
                f'interpolates, got {memory!r}, which computes changes of an '
                'output and never the output anew: the errors of '
                'interpolation would add up. Use whole steps '
                '(interpolate=False) or the other memory'
            )
        self.linear = linear
        classes = SKIP_CLASSES + SKIP_TRANSPOSED_CLASSES
        classes += SKIP_LINEAR_CLASSES if linear else ()
        self._skip_class = {kind.dense_class: kind for kind in classes}
        self._readers: dict[nn.Module, nn.Module] = {}
        self._read_apart: dict[nn.Module, str] = {}
        self._attention: dict[nn.Module, nn.Module] = {}
        self._last_layers: set[nn.Module] = set()
        self._unread: set[nn.Module] = set()

    def survey(self, model: nn.Module) -> None:
        """Look at a model before its layers are asked for one by one."""
        self._attention = find_attention(model)
        self._unread = find_unread_weights(model)
        self._readers, self._read_apart = weights_read_apart(model)
        self._last_layers = {
            module.out_proj
            for module in model.modules()
            if isinstance(module, nn.MultiheadAttention)
        }

    def concerns(self, module: nn.Module) -> bool:
        """Tell if a module is a layer, or an attention as a whole."""
        if isinstance(module, nn.MultiheadAttention):
            return True
        return super().concerns(module) and module not in self._last_layers

    def layers_of(self, name: str, module: nn.Module) -> list[str]:
        """Name the layers that a module becomes: four of an attention."""
        if not isinstance(module, nn.MultiheadAttention):
            return [name]
        return [f'{name}.{layer}'.lstrip('.') for layer in LAYERS]

    def refusal(self, name: str, module: nn.Module) -> str | None:
        """Say why a layer stays dense, None if it can be converted."""
        is_attention = isinstance(module, nn.MultiheadAttention)
        is_linear = is_attention or isinstance(module, nn.Linear)
        if is_linear and not self.linear:
            return LINEAR_REASON
        if is_attention:
            reason = attention_refusal(module)
        else:
            reason = refuse_unknown(module, self._skip_class)
        if reason is None and isinstance(module, nn.ConvTranspose2d):
            reason = transposed_refusal(module)
        if reason is not None:
            return reason
        if module in self._read_apart:
            return self._read_apart[module]
        if self.motion is not None and (
            is_linear or isinstance(module, (nn.Conv3d, nn.ConvTranspose2d))
        ):
            return 'motion compensation is for 2-D convolutions'
        if self._is_costly and not is_attention and is_cheap(module):
            return COSTLY_REASON
        if not self.roi_heads and 'roi_head' in name.split('.'):
            return ROI_REASON
        if self.layers and not self.layers.keys() >= {
            *self.layers_of(name, module)
        }:
            return 'there is no threshold for it'
        return None

    def apply(self, name: str, module: nn.Module) -> None:
        """Convert one layer in place; parameters, hooks and name stay."""
        layers = [module]
        if isinstance(module, nn.MultiheadAttention):
            module.__class__ = SkipMultiheadAttention
            if module in self._unread:
                module.drops_weights = True
            layers = module.split()
        elif module in self._readers:
            module.__class__ = SkipLinearApart
            module.__dict__['keeper'] = self._readers[module]
        else:
            module.__class__ = self._skip_class[type(module)]
        attention = self._attention.get(module)
        if attention is not None:
            # Past torch, which would make it a child of the layer.
            module.__dict__['keeper'] = attention
            attention.__class__ = skip_class(type(attention))
        names = self.layers_of(name, module)
        for layer_name, layer in zip(names, layers, strict=True):
            self._equip(layer_name, layer)

    def dense_products(self, model: nn.Module) -> dict[str, str]:
        """Say why modules compute products of tokens whole in each frame."""
        reasons = {}
        for name, module in model.named_modules():
            kind = type(module)
            if isinstance(
                module, (SkipAttentionMixin, SkipMultiheadAttention)
            ):
                continue
            if isinstance(module, nn.MultiheadAttention):
                reasons[name] = 'its projections stay dense'
            elif module in self._attention.values():
                reasons[name] = 'its qkv stays dense'
            elif multiplies_tokens(kind):
                reasons[name] = f'{kind.__name__} is not known'
        return reasons

    def _equip(self, name: str, layer: SkipConvMixin) -> None:
        """Give a layer its gate, and what else it needs to skip."""
        gate = self.gate
        if self.layers:
            gate = dict(gate, threshold=self.layers[name])
        layer.set_skip(gate, self.memory)
        if self.motion is not None:
            layer.motion = self.motion
        # Gates follow the layer they belong to.
        layer.gate.to(layer.weight.device).train(layer.training)


def is_cheap(layer: nn.Module) -> bool:
    """Tell if a layer has no more MACs than a learned gate for it."""
    if isinstance(layer, nn.Linear):
        return layer.out_features == 1
    return layer.out_channels <= layer.groups


@MODELS.register_module()
class GateCostLoss(nn.Module):
    """Penalises the expected MACs after the reference frame (Eq. 9).

    It is the mean of each layer's gates, weighted by its MACs
    (Skip-Convolutions, CVPR 2021), divided by the MACs with all gates open, so
    that one weight suits all models (the paper divides by a constant that is
    lost).

    Args:
        beta: Weight of the loss.

    Raises:
        ValueError: ``beta`` is negative.
    """

    def __init__(self, beta: float) -> None:
        super().__init__()
        if not beta >= 0:
            raise ValueError(f'expected beta >= 0, got {beta!r}')
        self.beta = beta

    def attach(self, model: nn.Module) -> None:
        """Let a converted model return this loss beside its own ones.

        Args:
            model: A model whose forward returns a dict of losses in
                training, as all models of the hosts do.
        """
        model.register_forward_hook(_AddLoss(self))

    def forward(self, costs: list[GateCost]) -> dict[str, Tensor]:
        """Turn costs into entries for a dict of losses.

        Args:
            costs: Costs of every call of a converted layer in one forward.

        Returns:
            ``loss_gate``, to be summed; ``gate_cost_expected`` and
            ``gate_cost_hard``, shares between 0 and 1, to be logged.
        """
        expected, hard = GateCost.total(costs)
        return dict(
            loss_gate=self.beta * expected,
            gate_cost_expected=expected.detach(),
            gate_cost_hard=hard,
        )

    def extra_repr(self) -> str:
        return f'beta={self.beta}'


class LateCosts:
    """Gives the loss stand-ins for costs, whose gradients are added later.

    Activation checkpointing (``with_cp=True`` of the hosts) runs a block
    without gradients first, when the loss gets the costs of its gates, and
    again in the backward, when there is a graph from the gates to their costs.
    """

    def __init__(self) -> None:
        self._waiting: dict[SkipConvMixin, list[Tensor]] = {}

    def put_off(self, layer: SkipConvMixin, cost: GateCost) -> GateCost:
        """Give the loss a stand-in for a cost, which takes its gradient.

        Args:
            layer: Layer that was called.
            cost: Cost of that call, which ran without gradients.
        """
        stand_in = cost.expected.detach().clone().requires_grad_()
        self._waiting.setdefault(layer, []).append(stand_in)
        return cost._replace(expected=stand_in)

    def settle(
        self, layer: SkipConvMixin, output: Tensor, cost: GateCost
    ) -> Tensor:
        """Give an output whose backward hands the gradient on to the cost.

        Args:
            layer: Layer that is called again.
            output: Output of that call.
            cost: Cost of that call, with gradients.
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
            names: Names of the layers.

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


class _AddLoss:
    """Adds entries to the losses that a model returns, as a forward hook.

    It counts on the costs that ``clip`` has collected in this forward.
    """

    def __init__(self, loss: nn.Module) -> None:
        self.loss = loss

    def __call__(
        self, model: nn.Module, inputs: tuple, output: Any
    ) -> dict | None:
        if not model.training or not isinstance(output, dict):
            return None
        layers = (m for m in model.modules() if isinstance(m, SelfCounting))
        binding = next(layers)._binding
        if not getattr(binding, 'costs', None):
            raise InputError(
                'expected clips of at least 2 frames in training, for the '
                'gates to have a cost; add custom_hooks=[dict(type='
                "'mmskip.VideoHook', num_frames=4)] or open mmskip.clip()"
            )
        return {**output, **self.loss(binding.costs)}


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

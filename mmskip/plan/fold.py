"""``fold``: a model as it should run when it is only used.

Batch norms go into the layers before them, activations become a part of the
Skip-Convolutions before them, and 3-D layers that extend along one plane run
as 2-D ones. Which layer an operation belongs to is read from the forwards of
the model, see :mod:`mmskip.plan.dataflow`.
"""

from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmskip.compression import L0ConvMixin
from mmskip.core import follow_layout, is_channels_last, list_reasons
from mmskip.native import Finish, LowKernels, PackedKernels, convolve
from mmskip.native.geometry import conv_geometry
from mmskip.native.library import Grid
from mmskip.skip_conv import Folding, NormGate, SkipConvMixin
from mmskip.va_red2 import DynamicConvMixin

from .dataflow import find_readers
from .graph import activation_name

#: Exact classes, as others may do more with their weights.
_CONVS_3D = {nn.Conv3d}
_LAYERS = {nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear}
try:
    from mmcv.cnn.bricks import (
        Conv2d,
        Conv2dAdaptivePadding,
        Conv3d,
        ConvTranspose2d,
        Linear,
        Swish,
    )
except ImportError:  # mmcv is optional: torch and mmengine suffice
    Swish = None
else:
    _CONVS_3D.add(Conv3d)
    _LAYERS |= {Conv2d, Conv2dAdaptivePadding, Conv3d, ConvTranspose2d, Linear}
_CONVERTED = (DynamicConvMixin, L0ConvMixin, SkipConvMixin)
_FORWARDS = {_BatchNorm.forward, nn.SyncBatchNorm.forward}


@dataclass
class FoldReport:
    """Tells what :func:`mmskip.fold` folded, and why the rest stays.

    Attributes:
        norms: Names of the layers that took a batch norm.
        activations: Names of the Skip-Convolutions that took an activation.
        planar: Names of the layers of clips that run as those of images.
        left: Reason why each other batch norm, and each activation that
            reads a Skip-Convolution, stays.
    """

    norms: list[str] = field(default_factory=list)
    activations: list[str] = field(default_factory=list)
    planar: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        done = (
            f'folded {len(self.norms)} batch norms and '
            f'{len(self.activations)} activations; {len(self.planar)} layers '
            'of clips run as those of images'
        )
        return '\n'.join([done, *list_reasons('left', self.left)])


def fold(model: nn.Module) -> FoldReport:
    """Prepare a model for inference, in place; it computes the same.

    - A batch norm goes into the convolution or linear layer that it reads,
      see :func:`mmskip.plan.fold_batch_norms`.
    - An activation becomes a part of the Skip-Convolution that it reads,
      see :func:`mmskip.plan.fold_activations`.
    - Convolutions and maxima of clips that extend along one plane run as
      those of images.

    There is no way back: ``mmskip.revert`` refuses a layer with an
    activation. Fold before ``propagate_changes``.

    Args:
        model: Any model in eval mode, converted or not.

    Returns:
        A report, to be printed: what was folded, and why the rest stays.

    Raises:
        ValueError: A batch norm is in training mode.
    """
    report = FoldReport()
    report.norms, left_norms = fold_batch_norms(model)
    for name, module in model.named_modules():
        if isinstance(module, DynamicConvMixin):
            module.planar = True
        elif is_planar_conv(module):
            module.__class__ = PlanarConv3d
            report.planar.append(name)
        elif is_planar_pool(module):
            module.__class__ = PlanarMaxPool3d
            report.planar.append(name)
        else:
            simplify_activation(module)
    report.activations, left_activations = fold_activations(model)
    report.left = left_norms | left_activations
    return report


def fold_batch_norms(model: nn.Module) -> tuple[list[str], dict[str, str]]:
    """Fold each batch norm into the layer before it, in place.

    A model in eval mode computes the same without them, up to rounding. The
    thresholds of a converted layer stay in units of its output before the
    normalisation, so the same outputs fire; mmcv's ``fuse_conv_bn`` does not
    know of them, and of 2-D convolutions only. There is no way back.

    A norm belongs to a convolution or linear layer if, by the forwards of
    the model, it reads nothing else and nothing else reads that, see
    :func:`mmskip.plan.find_readers`. It stays if it belongs to several or
    keeps no statistics, and if it silences a channel of a layer that must
    know its values: one whose gate is on the output, a dynamic one.

    Args:
        model: Any model in eval mode.

    Returns:
        Names of the layers that changed, and why each other norm stays.

    Raises:
        ValueError: A batch norm is in training mode.
    """
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.training:
            raise ValueError(
                f'expected batch norms in eval mode, got {name} in training '
                "mode; call the model's eval() first: they learn until then"
            )
    found = find_readers(model, _is_layer, _is_norm)
    names, left = found.names, dict(found.left)
    changed = set()
    for norm, layers in found.layers.items():
        why = 'several layers share it' if len(layers) > 1 else None
        if why is None:
            why = _refusal(layers[0], norm)
        if why is not None:
            left[norm] = why
            continue
        _fold(layers[0], norm)
        is_linear = isinstance(layers[0], nn.Linear)
        empty = FoldedBatchNorm() if is_linear else nn.Identity()
        replace(model, names[norm], empty)
        changed.add(layers[0])
    return found.describe(changed, left)


def fold_activations(model: nn.Module) -> tuple[list[str], dict[str, str]]:
    """Make each activation a part of the layer before it, in place.

    Activations are ReLU, SiLU, ReLU6, Hardswish and LeakyReLU; layers are
    Skip-Convolutions and those with packed kernels. The layer then returns
    activated outputs. A Skip-Convolution activates them in the pass that
    copies them out of its memory, where they stay as they were: gates fire
    as before. There is no way back.

    An activation belongs to such layers if, by the forwards of the
    model, it reads nothing else and nothing else reads that, see
    :func:`mmskip.plan.find_readers`. One that a block calls in several
    places (that of ResNet and HRNet) stays.

    Args:
        model: Any model in eval mode.

    Returns:
        Names of the layers that changed, and why each other activation
        stays.
    """
    if not any(map(_takes_activation, model.modules())):
        return [], {}
    found = find_readers(
        model, _takes_activation, lambda m: activation_name(m) is not None
    )
    changed = set()
    for activation, layers in found.layers.items():
        for layer in layers:
            layer.activation = activation_name(activation)
        changed.update(layers)
        replace(model, found.names[activation], nn.Identity())
    return found.describe(changed, found.left)


class PackedConv2d(nn.Conv2d):
    """Convolves by oneDNN, with its kernels laid out once.

    Attributes:
        packed: The kernels, which also know the precision.
        activation: Name of the activation that is a part of the layer.
    """

    dense_class = nn.Conv2d
    packed: PackedKernels
    activation: str | None = None

    def forward(
        self,
        input: Tensor,
        addend: Tensor | None = None,
        activation: str | None = None,
        grid: Grid | None = None,
        overwrites: bool = False,
    ) -> Tensor:
        """Convolve (N, C, H, W), or (C, H, W).

        Only a :class:`LowForward` gives the other arguments, those of
        :class:`mmskip.native.Finish`.
        """
        if input.dim() == 3:
            return self(input[None])[0]
        return self.packed.convolve(
            input,
            self.weight,
            self.bias,
            (self.padding, self.stride, self.dilation, self.groups),
            Finish(activation or self.activation, addend, grid, overwrites),
        )


class PackedConvTranspose2d(nn.ConvTranspose2d):
    """Does a transposed convolution by oneDNN, in a lower precision.

    Attributes:
        packed: The kernels.
        activation: Name of the activation that is a part of the layer.
    """

    dense_class = nn.ConvTranspose2d
    packed: LowKernels
    activation: str | None = None

    def forward(
        self,
        input: Tensor,
        output_size: list[int] | None = None,
        activation: str | None = None,
    ) -> Tensor:
        """Convolve (N, C, H, W), or (C, H, W)."""
        if input.dim() == 3:
            return self(input[None], output_size)[0]
        more = self._output_padding(
            input,
            output_size,
            self.stride,
            self.padding,
            self.kernel_size,
            2,
            self.dilation,
        )
        how = self.padding, tuple(more), self.stride, self.dilation
        return self.packed.transpose(
            input,
            self.weight,
            self.bias,
            (*how, self.groups),
            Finish(activation or self.activation),
        )


class PackedLinear(nn.Linear):
    """Multiplies by a matrix that is laid out once, in a lower precision.

    Attributes:
        packed: The matrix.
        activation: Name of the activation that is a part of the layer.
    """

    dense_class = nn.Linear
    packed: LowKernels
    activation: str | None = None

    def forward(
        self,
        input: Tensor,
        activation: str | None = None,
        grid: Grid | None = None,
    ) -> Tensor:
        """Multiply (..., C)."""
        return self.packed.multiply(
            input,
            self.weight,
            self.bias,
            Finish(activation or self.activation, grid=grid),
        )


class PlanarConv3d(nn.Conv3d):
    """Runs a 3-D convolution of a kernel (1, K, K) or (K, 1, 1) as a 2-D one.

    The sums are the same, see :func:`mmskip.native.convolve`.

    Attributes:
        packed: Kernels of a layout of their own; None: those of torch.
        activation: Name of the activation that is a part of the layer.
    """

    dense_class = nn.Conv3d
    packed: PackedKernels | None = None
    activation: str | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (N, C, T, H, W), or (C, T, H, W)."""
        if input.dim() == 4:
            return self(input[None])[0]
        conv2d = F.conv2d
        if self.packed is not None:
            conv2d = partial(self.packed.conv2d, activation=self.activation)
            x = input.contiguous(memory_format=torch.channels_last_3d)
        else:
            x = input
        output = convolve(
            x, self.weight, self.bias, conv_geometry(self), conv2d
        )
        return follow_layout(output, x, self.weight)


class PlanarMaxPool3d(nn.MaxPool3d):
    """Runs a maximum over (1, K, K) as a pooling of images."""

    def forward(self, input: Tensor) -> Tensor:
        """Pool (N, C, T, H, W), or (C, T, H, W)."""
        if input.dim() == 4:
            return super().forward(input)
        axes = (self.kernel_size, self.stride, self.padding, self.dilation)
        sizes = [_last_two(axis) for axis in axes]
        if not is_channels_last(input):
            pooled = F.max_pool2d(input.flatten(1, 2), *sizes, self.ceil_mode)
            return pooled.unflatten(1, input.shape[1:3])
        frames = input.transpose(1, 2)
        pooled = F.max_pool2d(frames.flatten(0, 1), *sizes, self.ceil_mode)
        return pooled.unflatten(0, frames.shape[:2]).transpose(1, 2)


class FoldedBatchNorm(nn.Identity):
    """Takes the place of a batch norm that a linear layer took.

    The linear layer took the last axis for the channels, and a norm takes the
    second.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return (N, C) as it is.

        Raises:
            ValueError: It has more dimensions.
        """
        if input.dim() != 2:
            raise ValueError(
                'expected (N, C) behind a linear layer that mmskip.fold() '
                f'gave its batch norm, got {tuple(input.shape)}; do not fold '
                'this model'
            )
        return input


def is_planar_conv(module: nn.Module) -> bool:
    """Tell if a plain convolution can run as a 2-D one."""
    if type(module) not in _CONVS_3D or 'forward' in vars(module):
        return False
    return is_planar(module)


def is_planar(conv: nn.Module) -> bool:
    """Tell if a 3-D convolution extends along one plane, padded by zeros."""
    time, *plane = conv.kernel_size
    return conv.padding_mode == 'zeros' and (time == 1 or max(plane) == 1)


def is_flat(conv: nn.Module) -> bool:
    """Tell if a 3-D convolution always runs as a 2-D one."""
    padding = conv_geometry(conv).padding
    return is_planar(conv) and all(
        size > 1 or amounts == (0, 0)
        for size, amounts in zip(conv.kernel_size, padding, strict=True)
    )


def is_planar_pool(module: nn.Module) -> bool:
    """Tell if a maximum over clips is one over each frame."""
    if type(module) is not nn.MaxPool3d or module.return_indices:
        return False
    sizes = (module.kernel_size, module.stride)
    return all(not isinstance(s, int) and s[0] == 1 for s in sizes) and (
        module.padding == 0
        or (not isinstance(module.padding, int) and module.padding[0] == 0)
    )


def simplify_activation(module: nn.Module) -> None:
    """Let mmcv's Swish, in place, do in one pass what it does in two."""
    if type(module) is Swish:
        module.__class__ = nn.SiLU
        module.inplace = False


def replace(model: nn.Module, names: list[str], new: nn.Module) -> None:
    """Put a module in the places of another one.

    Args:
        model: Model that it is in.
        names: All its names there.
        new: Module that takes its place, in eval mode from now on.
    """
    for name in names:
        parent, _, own = name.rpartition('.')
        setattr(model.get_submodule(parent), own, new.eval())


def _is_layer(module: nn.Module) -> bool:
    kind = type(module)
    return kind in _LAYERS or issubclass(kind, (*_CONVERTED, PlanarConv3d))


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and type(module).forward in _FORWARDS


def _refusal(layer: nn.Module, norm: _BatchNorm) -> str | None:
    """Say why a layer cannot take a norm, None if it can."""
    weight = layer._parameters.get('weight')
    if weight is None or 'bias' not in layer._parameters:
        return 'the weights it would change are computed in each call'
    if norm.running_var is None:
        return 'it keeps no statistics'
    outputs = len(weight)
    if getattr(layer, 'transposed', False):
        outputs = layer.out_channels
    if norm.num_features != outputs:
        return f'it has {norm.num_features} channels, not {outputs}'
    gate = getattr(layer, 'gate', None)
    by_output = isinstance(gate, NormGate) and gate.kind == 'output_norm'
    if by_output and gate.folded is not None:
        return 'its layer took another one'
    dynamic = isinstance(layer, DynamicConvMixin)
    if (by_output or dynamic) and not _affine(norm)[0].all():
        return 'it silences a channel that the layer must know'
    # By its filters a dynamic layer tells the factors.
    if dynamic and not weight.flatten(1).any(1).all():
        return 'a filter of its dynamic layer is 0'
    return None


@torch.no_grad()
def _affine(norm: _BatchNorm) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute factor and shift of each channel."""
    factor = torch.rsqrt(norm.running_var.double() + norm.eps)
    shift = -norm.running_mean * factor
    if norm.weight is not None:
        factor, shift = factor * norm.weight, shift * norm.weight
    return factor, shift if norm.bias is None else shift + norm.bias


@torch.no_grad()
def _fold(layer: nn.Module, norm: _BatchNorm) -> None:
    """Change the weights of a layer, as a norm behind it would."""
    weight, bias = layer.weight, layer.bias
    factor, shift = (t.to(weight.device) for t in _affine(norm))
    gate = getattr(layer, 'gate', None)
    if isinstance(gate, NormGate) and gate.kind == 'output_norm':
        gate.folded = Folding(factor.to(weight), shift.to(weight))
    new_bias = shift if bias is None else bias * factor + shift
    trains = weight.requires_grad
    for name, new in (('weight', _scaled(layer, factor)), ('bias', new_bias)):
        # Channels last stays.
        new = nn.Parameter(new.to(weight.dtype), requires_grad=trains)
        setattr(layer, name, new)


def _scaled(layer: nn.Module, factor: Tensor) -> Tensor:
    """Multiply each filter of a layer by a factor of its own."""
    weight = layer.weight
    if not getattr(layer, 'transposed', False):
        return weight * factor.view(-1, *[1] * (weight.dim() - 1))
    # (C_in, C_out / groups, ...).
    split = weight.unflatten(0, (layer.groups, -1))
    shape = layer.groups, 1, -1, *[1] * (weight.dim() - 2)
    return (split * factor.view(shape)).flatten(0, 1)


def _takes_activation(module: nn.Module) -> bool:
    takes = (
        isinstance(module, SkipConvMixin)
        or getattr(module, 'packed', None) is not None
    )
    return takes and module.activation is None


def _last_two(value: int | tuple[int, ...]) -> int | tuple[int, ...]:
    return value if isinstance(value, int) else value[1:]

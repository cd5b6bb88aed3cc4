"""Models without a plan: dense layers as fast as oneDNN computes them."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmskip.core import in_turns, samples_together
from mmskip.native import PackedKernels
from mmskip.native.geometry import conv_geometry
from mmskip.va_red2 import DynamicConvMixin

from .fold import PlanarConv3d, fold_activations, is_planar

try:
    from mmskip.sof_net import list_stages
except ImportError:  # mmaction is optional
    list_stages = None

#: Exact classes, as others may do more with their weights.
_CONVS_2D = {nn.Conv2d}
try:
    from mmcv.cnn.bricks import Conv2d
except ImportError:  # mmcv is optional: torch and mmengine suffice
    pass
else:
    _CONVS_2D.add(Conv2d)


class PackedConv2d(nn.Conv2d):
    """Convolves by oneDNN, with its kernels laid out once.

    Attributes:
        packed: The kernels.
        activation: ``relu`` or ``silu`` if it is a part of the layer.
    """

    packed: PackedKernels
    activation: str | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (N, C, H, W), or (C, H, W)."""
        if input.dim() == 3:
            return self(input[None])[0]
        return self.packed.conv2d(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            self.activation,
        )


def run_densely(model: nn.Module) -> list[str]:
    """Let the layers of a folded model compute densely and fast, in place.

    - Convolutions keep their kernels as oneDNN reads them fastest, see
      :class:`mmskip.native.PackedKernels`, beside the parameters.
    - Activations that read nothing else become a part of them.
    - Clips lie channels last, which 2-D convolutions along time and along
      space both read as they are.
    - The backbone of a recognizer runs a few samples at a time, see
      :func:`mmskip.core.in_turns`.

    Args:
        model: Model in eval mode on the CPU, without Skip-Convolutions.

    Returns:
        Sentences that say what was done.
    """
    names = [n for n, m in model.named_modules() if _pack(m)]
    taken, _ = fold_activations(model)
    done = (
        f'{len(names)} convolutions run on oneDNN, with kernels laid out '
        f'once; {len(taken)} of them with their activation'
    )
    backbone = getattr(model, 'backbone', None)
    if (
        not isinstance(backbone, nn.Module)
        or not hasattr(model, 'cls_head')
        or 'forward' in vars(backbone)
    ):
        return [done]
    backbone.forward = _InTurns(backbone)
    return [done, 'the backbone runs a few samples at a time']


def _pack(layer: nn.Module) -> bool:
    """Give a layer kernels of its own layout; returns if it takes them."""
    if 'forward' in vars(layer):
        return False
    if type(layer) in _CONVS_2D:
        if layer.padding_mode != 'zeros' or isinstance(layer.padding, str):
            return False
        layer.__class__ = PackedConv2d
    elif not isinstance(layer, (DynamicConvMixin, PlanarConv3d)) or not (
        layer.weight.dim() == 4 or _is_flat(layer)
    ):
        return False
    layer.packed = PackedKernels()
    if layer.weight.dim() == 5:
        layer.weight.data = layer.weight.data.contiguous(
            memory_format=torch.channels_last_3d
        )
    return True


def _is_flat(conv: nn.Module) -> bool:
    """Tell if a 3-D convolution always runs as a 2-D one."""
    padding = conv_geometry(conv).padding
    return is_planar(conv) and all(
        size > 1 or amounts == (0, 0)
        for size, amounts in zip(conv.kernel_size, padding, strict=True)
    )


class _InTurns:
    """Runs the forward of a backbone on a few samples at a time.

    Args:
        backbone: The backbone.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self.backbone = backbone
        self.treats_frames_alone = _treats_frames_alone(backbone)

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        forward = partial(
            type(self.backbone).forward, self.backbone, *args, **kwargs
        )
        alone = x.dim() == 5 or self.treats_frames_alone
        if torch.is_grad_enabled() or not x.is_cpu or not alone:
            return type(self.backbone).forward(
                self.backbone, x, *args, **kwargs
            )
        return in_turns(forward, x, samples_together(x.shape[1:]))


def _treats_frames_alone(backbone: nn.Module) -> bool:
    """Tell if the frames of a batch do not mix in a backbone of images."""
    if list_stages is None or any(
        # What they did is told sample by sample, of whole batches.
        isinstance(module, DynamicConvMixin)
        for module in backbone.modules()
    ):
        return False
    try:
        list_stages(backbone)
    except (TypeError, ValueError):
        return False
    return True

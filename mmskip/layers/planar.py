"""Layers of clips that look along one plane, run as layers of images."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmskip.ops import convolve, follow_layout

from .conv_geometry import conv_geometry

#: Exact classes: others may do more.
_CONVS = {nn.Conv3d}
try:
    from mmcv.cnn.bricks import Conv3d
except ImportError:  # mmcv is optional: torch and mmengine suffice
    pass
else:
    _CONVS.add(Conv3d)


class PlanarConv3d(nn.Conv3d):
    """A 3-D convolution with a kernel (1, K, K) or (K, 1, 1).

    The same sum by a 2-D convolution, see :func:`mmskip.ops.convolve`.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (N, C, T, H, W), or (C, T, H, W)."""
        if input.dim() == 4:
            return super().forward(input)
        geometry = conv_geometry(self)
        output = convolve(input, self.weight, self.bias, geometry)
        return follow_layout(output, input, self.weight)


class PlanarMaxPool3d(nn.MaxPool3d):
    """A maximum over (1, K, K), by a pooling of images."""

    def forward(self, input: Tensor) -> Tensor:
        """Pool (N, C, T, H, W), or (C, T, H, W)."""
        if input.dim() == 4:
            return super().forward(input)
        pooled = F.max_pool2d(
            input.flatten(1, 2),
            *(_last_two(part) for part in (self.kernel_size, self.stride)),
            *(_last_two(part) for part in (self.padding, self.dilation)),
            self.ceil_mode,
        )
        return pooled.unflatten(1, input.shape[1:3])


def is_planar_conv(module: nn.Module) -> bool:
    """Whether a plain convolution can run as a 2-D one."""
    if type(module) not in _CONVS or 'forward' in vars(module):
        return False
    time, *plane = module.kernel_size
    return module.padding_mode == 'zeros' and (time == 1 or max(plane) == 1)


def is_planar_pool(module: nn.Module) -> bool:
    """Whether a maximum over clips is one over each frame."""
    if type(module) is not nn.MaxPool3d or module.return_indices:
        return False
    sizes = (module.kernel_size, module.stride)
    return all(not isinstance(s, int) and s[0] == 1 for s in sizes) and (
        module.padding == 0
        or (not isinstance(module.padding, int) and module.padding[0] == 0)
    )


def _last_two(value: int | tuple[int, ...]) -> int | tuple[int, ...]:
    return value if isinstance(value, int) else value[1:]

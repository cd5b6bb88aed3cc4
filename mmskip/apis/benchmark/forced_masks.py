"""Force which outputs of a converted model fire, to time what that costs."""

import torch
from torch import Tensor, nn

from mmskip.layers import InputNormGate, SkipConvMixin
from mmskip.ops import GateParams

#: Spatial size of the output of each layer.
Sizes = dict[SkipConvMixin, torch.Size]
PATTERNS = ('blob', 'blocks', 'pixels')


class RegionGate(InputNormGate):
    """A norm gate that fires in a given region only."""

    def __init__(self) -> None:
        super().__init__(threshold=0.0)
        self.region: Tensor | None = None

    def params(self) -> GateParams:
        params = super().params()
        if params.region is not self.region:
            params = params._replace(region=self.region)
            self.__dict__['_params'] = params
        return params

    def force(self, region: Tensor) -> None:
        """Fire exactly there; nowhere means: where something changes."""
        self.region = region if region.any() else None
        self.threshold = -1.0 if region.any() else 0.0


def converted(model: nn.Module) -> list[SkipConvMixin]:
    """The Skip-Convolutions of a model."""
    return [m for m in model.modules() if isinstance(m, SkipConvMixin)]


def output_sizes(model: nn.Module, image: Tensor) -> Sizes:
    """Spatial size of what each Skip-Convolution computes."""
    sizes = {}

    def note(layer: SkipConvMixin, _: tuple, output: Tensor) -> None:
        sizes[layer] = output.shape[2:]

    handles = [m.register_forward_hook(note) for m in converted(model)]
    model(image)
    for handle in handles:
        handle.remove()
    return sizes


def region(pattern: str, share: float, size: torch.Size) -> Tensor:
    """A map (1, 1, H, W) of which a share is True."""
    height, width = size
    if pattern == 'blob':
        h, w = (round(s * share**0.5) for s in (height, width))
        mask = torch.zeros(1, 1, height, width, dtype=torch.bool)
        top, left = (height - h) // 2, (width - w) // 2
        mask[:, :, top : top + h, left : left + w] = True
        return mask
    side = 8 if pattern == 'blocks' else 1
    rows, columns = -(-height // side), -(-width // side)
    order = torch.randperm(rows * columns)
    mask = (order < round(share * rows * columns)).view(1, 1, rows, columns)
    mask = mask.repeat_interleave(side, -2).repeat_interleave(side, -1)
    return mask[..., :height, :width].contiguous()


def force(sizes: Sizes, pattern: str, share: float) -> None:
    """Make a share of every layer fire."""
    for layer, size in sizes.items():
        layer.gate.force(region(pattern, share, size))

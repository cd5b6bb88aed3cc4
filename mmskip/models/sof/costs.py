"""What the stages of a backbone cost, measured and not typed in."""

import copy
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from mmskip.runtime import count_macs

from .stages import list_stages

LayerMacs = dict[str, int]


class StageCosts(NamedTuple):
    """MACs of one frame.

    Attributes:
        stages: Of each stage, by the name of the layer in the model.
        head: The same of the classifier.
        channels: Of the feature behind each stage.
    """

    stages: tuple[LayerMacs, ...]
    head: LayerMacs
    channels: tuple[int, ...]

    @property
    def by_stage(self) -> tuple[int, ...]:
        """MACs of each stage."""
        return tuple(sum(layers.values()) for layers in self.stages)

    @property
    def frame(self) -> int:
        """MACs of a frame that goes through all stages and the classifier."""
        return sum(self.by_stage) + sum(self.head.values())

    @property
    def remaining(self) -> tuple[int, ...]:
        """``f_lookup`` (Eq. 3.10): MACs of a frame behind each stage."""
        done = torch.tensor(self.by_stage).cumsum(0).tolist()
        return tuple(self.frame - macs for macs in done)

    def missed(
        self, frames: int, videos: int, rows: Sequence[int]
    ) -> Iterator[tuple[str, int]]:
        """What plain TSN would have done beyond what ran.

        It sees every frame; its classifier runs once per video.

        Args:
            frames: Of all videos.
            videos: Number of videos.
            rows: How many frames ran through each stage, and how many times
                the classifier ran.

        Yields:
            Name of each layer, and its MACs that did not run.
        """
        wanted = [frames] * len(self.stages) + [videos]
        parts = [*self.stages, self.head]
        for layers, want, ran in zip(parts, wanted, rows, strict=True):
            for name, macs in layers.items():
                yield name, (want - ran) * macs


def measure_stages(
    backbone: nn.Module, cls_head: nn.Module, shape: tuple[int, int, int]
) -> StageCosts:
    """Count the MACs of a frame, stage by stage.

    The layers run on the meta device: what is counted are the real shapes,
    but nothing is computed and no statistics change.

    Args:
        backbone: See :func:`list_stages`. Its layers are named
            ``backbone.*``.
        cls_head: Takes the last feature and ``num_segs``. Named
            ``cls_head.*``.
        shape: (C, H, W) of a frame.

    Raises:
        ValueError: A stage does not give a feature map.
    """
    with torch.no_grad(), _disable_current_modes():
        return _measure(backbone, cls_head, shape)


def _measure(
    backbone: nn.Module, cls_head: nn.Module, shape: tuple[int, int, int]
) -> StageCosts:
    parts = nn.ModuleDict(dict(backbone=backbone, cls_head=cls_head))
    twin = copy.deepcopy(parts).to('meta').eval()
    names = {module: name for name, module in twin.named_modules()}
    for module in names:  # what watches the model is no part of it
        module._forward_hooks.clear()
    x = torch.empty(1, *shape, device='meta')
    stages, channels = [], []
    for stage in list_stages(twin['backbone']):
        x, macs = _count(stage, x, names)
        if not isinstance(x, Tensor) or x.dim() != 4:
            raise ValueError(
                'expected each stage to give a feature map (N, C, H, W), got '
                f'{tuple(x.shape) if isinstance(x, Tensor) else type(x)} '
                f'behind stage {len(stages)} of {type(backbone).__name__}'
            )
        stages.append(macs)
        channels.append(x.shape[1])
    _, head = _count(twin['cls_head'], x, names, num_segs=1)
    return StageCosts(tuple(stages), head, tuple(channels))


def _count(
    part: nn.Module, x: Tensor, names: dict[nn.Module, str], **options: int
) -> tuple[Tensor, LayerMacs]:
    """Run a part and tell what its layers did, by their names."""
    modules = dict(part.named_modules())
    with count_macs(part) as ledger:
        x = part(x, **options)
    return x, {
        names[modules[name]]: count.dense
        for name, count in ledger.by_module().items()
    }

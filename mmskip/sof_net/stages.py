"""Stages of a backbone, behind which a frame may stop, and their cost.

SoF-Net puts its policies behind the stages of a CNN, "stacked building blocks
with identical structures" (section 3.2). A user adds a backbone so::

    from mmskip.sof_net import list_stages


    @list_stages.register
    def _(backbone: MyBackbone) -> list[nn.Sequential]:
        return [nn.Sequential(backbone.stem), *backbone.blocks]

Running the stages one after the other has to be the backbone's forward, and
each has to work frame by frame. Their MACs are measured, not typed in, so an
added backbone has its costs, too.
"""

import copy
import functools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

import torch
from mmaction.models import (
    C2D,
    MobileNetV2,
    MobileNetV2TSM,
    ResNet,
    ResNetTSM,
    TANet,
)
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from mmskip.core import count_macs

LayerMacs = dict[str, int]


@functools.singledispatch
def list_stages(backbone: nn.Module) -> list[nn.Sequential]:
    """List the stages of a backbone, its own layers in running order.

    Args:
        backbone: Backbone of a kind that has been registered.

    Returns:
        Containers made on the spot, not to be kept: the layers in them are
        the backbone's at this moment.

    Raises:
        TypeError: The kind is not known.
        ValueError: It cannot be run stage by stage, with the reason.
    """
    known = sorted(
        f'{kind.__module__.split(".")[0]}.{kind.__name__}'
        for kind in list_stages.registry
        if list_stages.registry[kind] is not _refuse_temporal
        and kind is not object
    )
    raise TypeError(
        f'expected a backbone whose stages are known ({", ".join(known)}), '
        f'got {type(backbone).__module__}.{type(backbone).__name__}; tell '
        'its stages with @mmskip.sof_net.list_stages.register'
    )


@list_stages.register
def _(backbone: ResNet) -> list[nn.Sequential]:
    _check_output(backbone, backbone.num_stages - 1)
    stem = nn.Sequential(backbone.conv1, backbone.maxpool)
    stages = [getattr(backbone, name) for name in backbone.res_layers]
    return [stem, *stages]


@list_stages.register
def _(backbone: MobileNetV2) -> list[nn.Sequential]:
    """List one stage per resolution."""
    _check_output(backbone, len(backbone.layers) - 1)
    layers = [getattr(backbone, name) for name in backbone.layers]
    return [
        nn.Sequential(backbone.conv1, layers[0]),
        nn.Sequential(layers[1]),
        nn.Sequential(layers[2]),
        nn.Sequential(*layers[3:5]),
        nn.Sequential(*layers[5:]),
    ]


@list_stages.register(C2D)
@list_stages.register(MobileNetV2TSM)
@list_stages.register(ResNetTSM)
@list_stages.register(TANet)
def _refuse_temporal(backbone: nn.Module) -> list[nn.Sequential]:
    raise ValueError(
        f'expected a backbone that treats each frame by itself, got '
        f'{type(backbone).__name__}, which mixes features of neighbouring '
        'frames: the frames next to a stopped one would miss what it has '
        'not computed; use the backbone without temporal mixing (ResNet, '
        'MobileNetV2)'
    )


with suppress(ImportError):
    from torchvision.models import MobileNetV2 as TorchvisionMobileNetV2
    from torchvision.models import ResNet as TorchvisionResNet

    @list_stages.register
    def _(backbone: TorchvisionResNet) -> list[nn.Sequential]:
        stem = nn.Sequential(
            backbone.conv1, backbone.bn1, backbone.relu, backbone.maxpool
        )
        return [
            stem,
            backbone.layer1,
            backbone.layer2,
            backbone.layer3,
            backbone.layer4,
        ]

    @list_stages.register
    def _(backbone: TorchvisionMobileNetV2) -> list[nn.Sequential]:
        """List one stage per resolution."""
        ends = (2, 4, 7, 14, None)
        return [
            backbone.features[start:end]
            for start, end in zip((0, *ends), ends, strict=False)
        ]


class StageCosts(NamedTuple):
    """Holds the MACs of one frame, layer by layer.

    Attributes:
        stages: For each stage MACs by the name of the layer in the model.
        head: MACs of the classifier, by layer.
        channels: Number of channels behind each stage.
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

    def skipped(
        self, frames: int, videos: int, rows: Sequence[int]
    ) -> Iterator[tuple[str, int]]:
        """Count the MACs of plain TSN beyond those that ran.

        TSN runs every frame through all stages, and its classifier once per
        video.

        Args:
            frames: Number of frames of all videos.
            videos: Number of videos.
            rows: Number of frames that ran through each stage, and last the
                number of times that the classifier ran.

        Yields:
            Name of each layer, and its MACs that did not run.
        """
        wanted = [frames] * len(self.stages) + [videos]
        costs = [*self.stages, self.head]
        for layers, want, ran in zip(costs, wanted, rows, strict=True):
            for name, macs in layers.items():
                yield name, (want - ran) * macs


def measure_stages(
    backbone: nn.Module, cls_head: nn.Module, shape: tuple[int, int, int]
) -> StageCosts:
    """Count the MACs of a frame, stage by stage.

    The layers run on the meta device: the shapes are the real ones, but
    nothing is computed and no statistics change.

    Args:
        backbone: Backbone of a kind that :func:`list_stages` knows. Its
            layers are named ``backbone.*``.
        cls_head: Classifier that takes the last feature and ``num_segs``.
            Its layers are named ``cls_head.*``.
        shape: (C, H, W) of a frame.

    Raises:
        ValueError: A stage does not give a feature map.
    """
    with torch.no_grad(), _disable_current_modes():
        return _measure(backbone, cls_head, shape)


def _check_output(backbone: nn.Module, last: int) -> None:
    """Refuse a backbone that returns anything but its last stage."""
    if tuple(backbone.out_indices) != (last,):
        raise ValueError(
            f'expected {type(backbone).__name__} with out_indices=({last},), '
            f'got {tuple(backbone.out_indices)}; the classifier takes the '
            'last stage and nothing else'
        )


def _measure(
    backbone: nn.Module, cls_head: nn.Module, shape: tuple[int, int, int]
) -> StageCosts:
    net = nn.ModuleDict(dict(backbone=backbone, cls_head=cls_head))
    twin = copy.deepcopy(net).to('meta').eval()
    names = {module: name for name, module in twin.named_modules()}
    for module in names:  # hooks are about the model, not about its copy
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
    module: nn.Module, x: Tensor, names: dict[nn.Module, str], **options: int
) -> tuple[Tensor, LayerMacs]:
    """Run a module and count the MACs of its layers, by their names."""
    modules = dict(module.named_modules())
    with count_macs(module) as ledger:
        x = module(x, **options)
    return x, {
        names[modules[name]]: count.dense
        for name, count in ledger.by_module().items()
    }

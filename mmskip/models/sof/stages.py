"""The stages of a backbone: the places where a frame may stop.

SoF-Net puts its policies behind the stages of a CNN, "stacked building blocks
with identical structures" (section 3.2). A user adds a backbone so::

    from mmskip.models.sof import list_stages


    @list_stages.register
    def _(backbone: MyBackbone) -> list[nn.Sequential]:
        return [nn.Sequential(backbone.stem), *backbone.blocks]

Running the stages one after the other has to be the backbone's forward, and
each has to work frame by frame.
"""

import functools
from contextlib import suppress

from mmaction.models import (
    C2D,
    MobileNetV2,
    MobileNetV2TSM,
    ResNet,
    ResNetTSM,
    TANet,
)
from torch import nn


@functools.singledispatch
def list_stages(backbone: nn.Module) -> list[nn.Sequential]:
    """List the stages of a backbone, its own layers in running order.

    Args:
        backbone: Of a kind that has been registered.

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
        'its stages with @mmskip.models.sof.list_stages.register'
    )


@list_stages.register
def _(backbone: ResNet) -> list[nn.Sequential]:
    _check_output(backbone, backbone.num_stages - 1)
    stem = nn.Sequential(backbone.conv1, backbone.maxpool)
    stages = [getattr(backbone, name) for name in backbone.res_layers]
    return [stem, *stages]


@list_stages.register
def _(backbone: MobileNetV2) -> list[nn.Sequential]:
    """One stage per resolution."""
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
        f'expected a backbone that sees each frame by itself, got '
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
        """One stage per resolution."""
        ends = (2, 4, 7, 14, None)
        return [
            backbone.features[start:end]
            for start, end in zip((0, *ends), ends, strict=False)
        ]


def _check_output(backbone: nn.Module, last: int) -> None:
    """Refuse a backbone that returns anything but its last stage."""
    if tuple(backbone.out_indices) != (last,):
        raise ValueError(
            f'expected {type(backbone).__name__} with out_indices=({last},), '
            f'got {tuple(backbone.out_indices)}; the classifier sees the '
            'last stage and nothing else'
        )

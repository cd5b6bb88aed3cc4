"""Which options of a dynamic convolution are possible, and which are used."""

from typing import NamedTuple

import torch
from torch import nn

from mmskip.ops import option_sizes

from .soft_modulation_gate import OptionWeights

Options = tuple[int, ...]


class Usage(NamedTuple):
    """Options with a non-zero weight, per axis; (0,) if it is not dynamic.

    The first is the largest, which is computed.
    """

    time: Options
    channels: Options


def used_options(weights: OptionWeights, samples: int) -> list[Usage]:
    """The options with a non-zero weight of each sample."""
    axes = [axis for axis in weights if axis is not None]
    # One copy from the device.
    rows = torch.cat([axis > 0 for axis in axes], 1).tolist()
    split = 0 if weights.time is None else weights.time.shape[1]
    usages = []
    for row in rows:
        parts = row[:split], row[split:]
        usages.append(
            Usage(
                *(
                    tuple(i for i, w in enumerate(p) if w) or (0,)
                    for p in parts
                )
            )
        )
    return usages


def union(usages: list[Usage]) -> Usage:
    """The options that any of the samples uses."""
    return Usage(
        *(
            tuple(sorted({option for used in axis for option in used}))
            for axis in zip(*usages, strict=True)
        )
    )


def refuse_options(
    conv: nn.Module, time_options: int, channel_options: int
) -> str | None:
    """Why a convolution cannot have this many options, None if it can."""
    if time_options < 2 and channel_options < 2:
        return 'no axis with at least two options'
    if time_options > 1 and conv.weight.dim() < 5:
        return 'a temporal axis on a convolution of images'
    sizes = option_sizes(conv.out_channels, channel_options)
    if len(set(sizes)) < len(sizes):
        return (
            f'{conv.out_channels} output channels, too few for '
            f'{channel_options} options that differ'
        )
    if conv.groups > 1 and any(
        size * conv.groups % conv.out_channels for size in sizes
    ):
        return (
            f'{conv.groups} groups, which {channel_options} channel options '
            'would cut in parts'
        )
    return None

"""What dynamic convolutions chose, by class, layer and clip (VA-RED^2).

B. Pan, "Dynamic Neural Network for Efficient Video Recognition", M.S.
thesis, MIT, 2023, Fig. 4-1, 4-2, B-4 and B-6.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmskip.va_red2 import ChoiceRecord

AXES = ('time', 'channels')

Clip = Mapping[str, Any]


class ClipChoices(NamedTuple):
    """What was computed for N clips, in order.

    Attributes:
        shares: By axis and layer, the share of the features that were
            computed, (N,): 1 / R of the frames, r of the channels.
        macs: Of the whole model, (N,) int64.
        ratio: MACs of the dynamic layers by those of the plain ones, (N,).
    """

    shares: dict[str, dict[str, Tensor]]
    macs: Tensor
    ratio: Tensor


def read_choices(record: ChoiceRecord) -> ClipChoices:
    """Read what ``mmskip.record_choices`` collected.

    Layers that see each frame on its own have their means over the frames
    of a clip.

    Raises:
        ValueError: Nothing ran, or not as often in all layers.
    """
    macs = record.sample_macs()
    clips = len(macs)
    if not clips:
        raise ValueError(
            'expected a model that ran inside record_choices, got no clip'
        )
    shares: dict[str, dict[str, Tensor]] = {axis: {} for axis in AXES}
    spent, dense = torch.zeros(clips), 0.0
    for name, layer in record.by_layer().items():
        rows = len(layer.executed)
        if rows % clips:
            raise ValueError(
                f'expected as many rows of {name} for each of {clips} clips, '
                f'got {rows}'
            )
        for axis in AXES:
            share = 0.5 ** getattr(layer, axis).double()
            shares[axis][name] = share.view(clips, -1).mean(1)
        spent += layer.executed.view(clips, -1).sum(1)
        dense += layer.dense * rows / clips
    return ClipChoices(shares, macs, spent / dense)


def join_choices(parts: Sequence[ClipChoices]) -> ClipChoices:
    """Put what was read of several batches behind each other."""
    layers = list(parts[0].shares['time'])
    shares = {
        axis: {
            layer: torch.cat([part.shares[axis][layer] for part in parts])
            for layer in layers
        }
        for axis in AXES
    }
    macs = torch.cat([part.macs for part in parts])
    return ClipChoices(shares, macs, torch.cat([p.ratio for p in parts]))


def share_by_class(
    choices: ClipChoices, labels: Sequence[int]
) -> list[dict[str, Any]]:
    """Mean share of computed features of each class in each layer.

    Args:
        choices: Of the clips.
        labels: Their classes.

    Returns:
        Rows with ``label``, ``layer``, ``clips`` and the share on each axis.
    """
    truth = torch.as_tensor(labels)
    rows = []
    for label in sorted(set(labels)):
        members = truth == label
        rows += [
            dict(
                label=label,
                layer=layer,
                clips=int(members.sum()),
                **{
                    axis: float(choices.shares[axis][layer][members].mean())
                    for axis in AXES
                },
            )
            for layer in choices.shares['time']
        ]
    return rows


def cost_distribution(
    macs: Sequence[int], limits: tuple[int, int], bins: int = 10
) -> list[dict[str, Any]]:
    """Share of the clips in ranges of cost of one width.

    Args:
        macs: Of each clip.
        limits: Of the ranges, in MACs; the same for groups that are to be
            compared.
        bins: Number of ranges; one if the limits are equal.

    Returns:
        Rows with ``gmac_from``, ``gmac_to`` and ``share``.
    """
    low, high = limits
    if low == high:
        return [dict(gmac_from=low / 1e9, gmac_to=high / 1e9, share=1.0)]
    counts, edges = np.histogram(macs, bins, limits)
    return [
        dict(
            gmac_from=float(start) / 1e9,
            gmac_to=float(stop) / 1e9,
            share=float(count / len(macs)),
        )
        for (start, stop), count in zip(pairwise(edges), counts, strict=True)
    ]


class ExtremeClips:
    """Keeps the cheapest and the dearest clip of each class, as they come.

    Attributes:
        by_label: The two of each class; of equal ones the first counts.
    """

    def __init__(self) -> None:
        self.by_label: dict[int, tuple[Clip, Clip]] = {}

    def add(self, clip: Clip) -> None:
        """Look at a clip, with ``label`` and ``macs``."""
        label = clip['label']
        low, high = self.by_label.get(label, (clip, clip))
        self.by_label[label] = (
            clip if clip['macs'] < low['macs'] else low,
            clip if clip['macs'] > high['macs'] else high,
        )

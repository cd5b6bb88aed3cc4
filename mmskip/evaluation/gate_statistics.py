"""Statistics of gates: firing by stage, routing by class and clip.

The share of outputs that gates of Skip-Conv let through, by layer and stage;
and the routing of dynamic convolutions by class, layer and clip (B. Pan,
"Dynamic Neural Network for Efficient Video Recognition", M.S. thesis, MIT,
2023, Fig. 4-1, 4-2, B-4 and B-6).
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mmskip.core import dense_macs
from mmskip.skip_conv import SkipConvMixin, SkipMemory, StreamState
from mmskip.skip_conv.gate_mask import GatePlace
from mmskip.va_red2 import RoutingRecord

# What a stage is called is what the first of these matches at the beginning
# of a layer's name: blocks of an EfficientNet or a BiFPN (backbone.layers.3),
# else two components (backbone.layer2, bbox_head.cls_convs), else one.
STAGES = (r'[^.]+\.layers\.\d+', r'[^.]+\.[^.]+', r'[^.]+')
AXES = ('time', 'channels')
Clip = Mapping[str, Any]


def stage_of(name: str, stages: Sequence[str] = STAGES) -> str | None:
    """Return the stage that a layer belongs to.

    Args:
        name: Name of the layer.
        stages: Regular expressions; the first that matches the beginning of
            the name, up to a dot, gives the stage its name.

    Returns:
        The text that was matched, None if no expression does.
    """
    for stage in stages:
        found = re.match(rf'({stage})(?=\.|$)', name)
        if found:
            return found[1]
    return None


def firing_by_stage(
    layers: Mapping[str, Mapping[str, Any]], stages: Sequence[str] = STAGES
) -> list[dict[str, Any]]:
    """Average firing rates outside reference frames, by stage.

    Args:
        layers: ``layers`` of the file that :class:`mmskip.ComputeCost`
            writes: ``dense``, ``executed``, ``reference`` and
            ``firing_rate`` by name.
        stages: See :func:`stage_of`; layers of no stage are left out.

    Returns:
        Per stage, in the order of the layers: ``firing_rate``, the mean over
        its layers (Skip-Conv, supplement, Fig. 1); ``mac_share``, the same
        weighted by their MACs; ``layers``, their number.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for name, count in layers.items():
        stage = stage_of(name, stages)
        # A converted layer begins with a reference frame, others have none.
        if stage is not None and count['reference']:
            groups.setdefault(stage, []).append(count)
    return [dict(stage=s, **_rates(counts)) for s, counts in groups.items()]


@dataclass
class GateShares:
    """MACs of a layer outside reference frames, summed over frames.

    Attributes:
        dense: With all gates open.
        expected: By the probabilities of the gates, which are what the
            efficiency loss weighs in training (Skip-Conv, Eq. 9).
        drawn: By one draw from them, as in training.
        measured: By what was computed in inference. With the accumulated
            memory these are fewer outputs than the gates chose: only those
            that a transmitted input reaches.
    """

    dense: float = 0.0
    expected: float = 0.0
    drawn: float = 0.0
    measured: float = 0.0

    def add(self, dense: int, **shares: Tensor) -> None:
        """Count one call: its dense MACs, and shares of them."""
        self.dense += dense
        for name, share in shares.items():
            new = getattr(self, name) + dense * float(share)
            setattr(self, name, new)

    def share(self, name: str) -> float:
        """Return a sum as a share of ``dense``; 0 if there is nothing."""
        return getattr(self, name) / self.dense if self.dense else 0.0


class GateWatch:
    """Watches the learned gates of a converted model in a stream.

    Args:
        model: The model, in eval mode; one image per forward and stream.

    Attributes:
        layers: The shares of each layer with a learned gate.

    Raises:
        ValueError: The model has no learned gate.
    """

    def __init__(self, model: nn.Module) -> None:
        self.layers: dict[str, GateShares] = {}
        self._model = model
        self._names = {
            module: name
            for name, module in model.named_modules()
            if isinstance(module, SkipConvMixin)
            and module.gate.kind == 'learned'
        }
        if not self._names:
            raise ValueError(
                'expected a model with learned gates, got '
                f'{type(model).__name__} without any; convert it with '
                "gate=dict(type='mmskip.GumbelGate')"
            )
        self._calls: Counter[nn.Module] = Counter()
        self._before: SkipMemory | None = None

    @contextmanager
    def watch(self, state: StreamState) -> Iterator[None]:
        """Count what the gates do in a stream while the block runs.

        Args:
            state: State of the stream that the model is in.
        """

        def enter(layer: SkipConvMixin, inputs: tuple) -> None:
            site = (self._names[layer], self._calls[layer])
            memory = state.memory_of(site)
            self._before = None if memory is None else memory.clone()

        def leave(layer: SkipConvMixin, inputs: tuple, output: Any) -> None:
            site = (self._names[layer], self._calls[layer])
            self._calls[layer] += 1
            mask = state.last_masks()[site]
            self._count(layer, inputs[0], output, mask)

        def begin(*_: Any) -> None:
            self._calls.clear()

        handles = [self._model.register_forward_pre_hook(begin)]
        for layer in self._names:
            handles.append(layer.register_forward_pre_hook(enter))
            handles.append(layer.register_forward_hook(leave))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def total(self) -> GateShares:
        """The sum over all layers."""
        total = GateShares()
        for layer in self.layers.values():
            for name, value in vars(layer).items():
                setattr(total, name, getattr(total, name) + value)
        return total

    @torch.no_grad()
    def _count(
        self, layer: SkipConvMixin, x: Tensor, output: Tensor, mask: Tensor
    ) -> None:
        before = self._before
        if before is None or not before.fits(x):
            return  # a reference frame: no gate is asked
        place = GatePlace(
            before.scale, layer.geometry(x), layer.weight.shape[2:]
        )
        drawn, probability, *_ = layer.gate.draw(x - before.input, x, place)
        self.layers.setdefault(self._names[layer], GateShares()).add(
            dense_macs(layer, output.shape),
            expected=probability.mean(),
            drawn=drawn.mean(),
            measured=mask.float().mean(),
        )


def _rates(counts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    counts = list(counts)
    executed = sum(c['executed'] - c['reference'] for c in counts)
    dense = sum(c['dense'] - c['reference'] for c in counts)
    return dict(
        firing_rate=sum(c['firing_rate'] for c in counts) / len(counts),
        mac_share=executed / dense if dense else 0.0,
        layers=len(counts),
    )


class ClipRouting(NamedTuple):
    """Holds the routing of N clips, in order.

    Attributes:
        shares: By axis and layer, the share of the features that were
            computed, (N,): 1 / R of the frames, r of the channels.
        macs: MACs of the whole model, (N,) int64.
        ratio: MACs of the dynamic layers by those of the plain ones, (N,).
    """

    shares: dict[str, dict[str, Tensor]]
    macs: Tensor
    ratio: Tensor


def read_routing(record: RoutingRecord) -> ClipRouting:
    """Read the routing of clips from what ``record_routing`` collected.

    Layers that run on each frame on its own have their means over the frames
    of a clip.

    Raises:
        ValueError: Nothing ran, or not as often in all layers.
    """
    macs = record.sample_macs()
    clips = len(macs)
    if not clips:
        raise ValueError(
            'expected a model that ran inside record_routing, got no clip'
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
    return ClipRouting(shares, macs, spent / dense)


def join_routing(batches: Sequence[ClipRouting]) -> ClipRouting:
    """Join the routing of several batches, one behind the other."""
    layers = list(batches[0].shares['time'])
    shares = {
        axis: {
            layer: torch.cat([batch.shares[axis][layer] for batch in batches])
            for layer in layers
        }
        for axis in AXES
    }
    macs = torch.cat([batch.macs for batch in batches])
    return ClipRouting(shares, macs, torch.cat([b.ratio for b in batches]))


def share_by_class(
    routing: ClipRouting, labels: Sequence[int]
) -> list[dict[str, Any]]:
    """Average the share of computed features by class and layer.

    Args:
        routing: Routing of the clips.
        labels: Class of each clip.

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
                    axis: float(routing.shares[axis][layer][members].mean())
                    for axis in AXES
                },
            )
            for layer in routing.shares['time']
        ]
    return rows


def cost_distribution(
    macs: Sequence[int], limits: tuple[int, int], bins: int = 10
) -> list[dict[str, Any]]:
    """Count the share of the clips in ranges of cost of one width.

    Args:
        macs: MACs of each clip.
        limits: Limits of the ranges, in MACs; the same for groups that are
            to be compared.
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
        """Take a clip, with ``label`` and ``macs``."""
        label = clip['label']
        low, high = self.by_label.get(label, (clip, clip))
        self.by_label[label] = (
            clip if clip['macs'] < low['macs'] else low,
            clip if clip['macs'] > high['macs'] else high,
        )

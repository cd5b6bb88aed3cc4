"""Layers of a model, grouped into its stages."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# What a stage is called is what the first of these matches at the beginning
# of a layer's name: blocks of an EfficientNet or a BiFPN (backbone.layers.3),
# else two components (backbone.layer2, bbox_head.cls_convs), else one.
STAGES = (r'[^.]+\.layers\.\d+', r'[^.]+\.[^.]+', r'[^.]+')


def stage_of(name: str, stages: Sequence[str] = STAGES) -> str | None:
    """The stage that a layer belongs to.

    Args:
        name: Of the layer.
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
    """Firing rates of converted layers outside reference frames, by stage.

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


def _rates(counts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    counts = list(counts)
    executed = sum(c['executed'] - c['reference'] for c in counts)
    dense = sum(c['dense'] - c['reference'] for c in counts)
    return dict(
        firing_rate=sum(c['firing_rate'] for c in counts) / len(counts),
        mac_share=executed / dense if dense else 0.0,
        layers=len(counts),
    )

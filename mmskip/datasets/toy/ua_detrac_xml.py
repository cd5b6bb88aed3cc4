"""Write annotations in the XML format of UA-DETRAC, first edition.

Pixels count from 1 there, frames too, and a frame without vehicles has no
element.
"""

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence

import numpy as np

from .annotation import Box, Sighting


def format_sequence(
    name: str,
    frames: Sequence[Sequence[Sighting]],
    ignored_regions: Sequence[Box],
    weather: str,
) -> str:
    """Format the annotation of a sequence.

    Args:
        name: Name of the sequence.
        frames: What is annotated in each frame.
        ignored_regions: Boxes ``(x1, y1, x2, y2)`` in pixels from 0.
        weather: 'sunny' or 'cloudy'.

    Returns:
        The text of the XML file.
    """
    root = ET.Element('sequence', name=name)
    # 'sence' is how the original spells it.
    ET.SubElement(
        root,
        'sequence_attribute',
        camera_state='stable',
        sence_weather=weather,
    )
    regions = ET.SubElement(root, 'ignored_region')
    for box in ignored_regions:
        ET.SubElement(regions, 'box', _format_box(box))
    lengths = Counter(s.track_id for frame in frames for s in frame)
    before: dict[int, Box] = {}
    for number, sightings in enumerate(frames, 1):
        if sightings:
            frame = ET.SubElement(
                root, 'frame', density=str(len(sightings)), num=str(number)
            )
            targets = ET.SubElement(frame, 'target_list')
            for sighting in sightings:
                length = lengths[sighting.track_id]
                speed = _speed(sighting.box, before.get(sighting.track_id))
                _add_target(targets, sighting, length, speed)
        before = {s.track_id: s.box for s in sightings}
    ET.indent(root, space='   ')
    body = ET.tostring(root, encoding='unicode')
    return f'<?xml version="1.0" encoding="utf-8"?>\n{body}\n'


def _add_target(
    parent: ET.Element, sighting: Sighting, length: int, speed: float
) -> None:
    """Add one ``<target>``."""
    target = ET.SubElement(parent, 'target', id=str(sighting.track_id))
    ET.SubElement(target, 'box', _format_box(sighting.box))
    ET.SubElement(
        target,
        'attribute',
        orientation=_format(sighting.orientation),
        speed=_format(speed),
        trajectory_length=str(length),
        truncation_ratio=_format(sighting.truncation),
        vehicle_type=sighting.kind,
    )
    if sighting.overlaps:
        occlusion = ET.SubElement(target, 'occlusion')
        for overlap in sighting.overlaps:
            ET.SubElement(
                occlusion,
                'region_overlap',
                _format_box(overlap.box),
                occlusion_id=str(overlap.other),
                occlusion_status=str(overlap.status),
            )


def _speed(box: Box, before: Box | None) -> float:
    """Pixels that the middle of a box moved since the frame before."""
    if before is None:
        return 0.0
    moved = np.reshape(box, (2, 2)).mean(0) - np.reshape(before, (2, 2)).mean(
        0
    )
    return float(np.hypot(*moved))


def _format_box(box: Box) -> dict[str, str]:
    """A box as attributes, pixels from 1."""
    x1, y1, x2, y2 = box
    return dict(
        left=_format(x1 + 1),
        top=_format(y1 + 1),
        width=_format(x2 - x1),
        height=_format(y2 - y1),
    )


def _format(value: float) -> str:
    """A number with at most four digits behind the point."""
    return f'{value:.4f}'.rstrip('0').rstrip('.')

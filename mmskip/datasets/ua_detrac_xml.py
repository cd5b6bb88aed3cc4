"""Parse the annotation files of UA-DETRAC, one XML file per sequence.

The release exists in several editions. All of these are read:

- ``MVI_20011.xml`` (four vehicle types in lower case) and
  ``MVI_20011_v3.xml`` (thirteen capitalised types and a colour);
- ``left/top/width/height`` and ``left/top/w/h`` boxes;
- frames without vehicles, which have no ``<frame>`` element at all.

Boxes are stored in pixels counted from 1 and frames numbered from 1; what
comes out of this module counts both from 0.
"""

import math
import os
import warnings
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass

from mmskip.runtime import InputError
from mmskip.runtime.reading import SHOWN, excerpt, reads

Box = tuple[float, float, float, float]

# The fine types of edition v3, sorted into the four classes of the benchmark.
# The release does not come with such a table; this one is ours.
CLASS_OF_TYPE = {
    'car': 'car',
    'sedan': 'car',
    'hatchback': 'car',
    'suv': 'car',
    'taxi': 'car',
    'police': 'car',
    'van': 'van',
    'minivan': 'van',
    'bus': 'bus',
    'others': 'others',
    'other': 'others',
    'unknown': 'others',
    'truck': 'others',
    'truck-box-large': 'others',
    'truck-box-med': 'others',
    'truck-box-small': 'others',
    'truck-flatbed': 'others',
    'truck-pickup': 'others',
    'truck-util': 'others',
}


# What the elements of an annotation may hold; of others nothing is known.
KNOWN = {
    'sequence': {'sequence_attribute', 'ignored_region', 'frame'},
    'ignored_region': {'box'},
    'frame': {'target_list'},
    'target_list': {'target'},
    'target': {'box', 'attribute', 'occlusion'},
}
ARCHIVE = 'extract it again from the archive'


@dataclass(frozen=True)
class Target:
    """One annotated vehicle in one frame.

    Attributes:
        track_id: Number of the vehicle, unique within its sequence.
        box: ``(x1, y1, x2, y2)`` in pixels from 0; it may stick out of the
            image by a little.
        vehicle_type: As in the file, in lower case.
    """

    track_id: int
    box: Box
    vehicle_type: str


@dataclass(frozen=True)
class SequenceAnnotation:
    """Everything one annotation file says that a detector can use.

    Attributes:
        name: Name of the sequence.
        ignored_regions: Boxes in which vehicles are not annotated, the same
            in every frame.
        frames: Targets by frame index from 0. A frame without vehicles is
            usually absent.
    """

    name: str
    ignored_regions: tuple[Box, ...]
    frames: dict[int, tuple[Target, ...]]


@reads('an annotation file of UA-DETRAC (XML)', ARCHIVE)
def read_sequence(path: str | os.PathLike) -> SequenceAnnotation:
    """Read the annotation file of one sequence.

    A ``density`` that differs from the number of targets, a track that
    occurs twice in a frame, and elements of unknown names give one warning
    per file: the targets are what counts.

    Args:
        path: An XML file of UA-DETRAC.

    Returns:
        The annotation, with boxes and frames counted from 0.

    Raises:
        InputError: The file is not an annotation of UA-DETRAC, or a number
            in it is missing or impossible. The message names file and place.
    """
    root = ET.parse(path).getroot()
    if root.tag != 'sequence':
        raise InputError(
            f'{path}: expected the root element <sequence>, got '
            f'<{root.tag[:SHOWN]}>; this is not an annotation file of '
            'UA-DETRAC'
        )
    regions = tuple(
        _read_box(box, f'{path}: ignored region {number}')
        for number, box in enumerate(root.iterfind('ignored_region/box'), 1)
    )
    frames = {}
    oddities = _find_unknown(root)
    for element in root.iterfind('frame'):
        number = _read_number(element, ('num',), f'{path}: <frame>')
        if number < 1 or number != int(number):
            raise InputError(
                f'{path}: expected frame numbers 1, 2, ..., got '
                f'num="{element.get("num")}"'
            )
        place = f'{path}: frame {int(number)}'
        if int(number) - 1 in frames:
            raise InputError(f'{place}: expected one <frame> element, got two')
        targets = tuple(
            _read_target(target, place)
            for target in element.iterfind('target_list/target')
        )
        frames[int(number) - 1] = targets
        oddities += _find_oddities(element, targets, int(number))
    if oddities:
        warnings.warn(
            f'{path}: {oddities[0]}'
            + (f' (and {len(oddities) - 1} more)' if oddities[1:] else '')
            + '; the targets listed are used as they are',
            stacklevel=2,
        )
    return SequenceAnnotation(root.get('name', ''), regions, frames)


def clip_box(box: Box, size: tuple[int, int]) -> list[float] | None:
    """Clip a box to an image.

    Args:
        box: ``(x1, y1, x2, y2)`` in pixels from 0.
        size: ``(width, height)`` of the image.

    Returns:
        The box; None if nothing of it is left.
    """
    width, height = size
    x1, x2 = (min(max(x, 0.0), float(width)) for x in box[::2])
    y1, y2 = (min(max(y, 0.0), float(height)) for y in box[1::2])
    return [x1, y1, x2, y2] if x2 > x1 and y2 > y1 else None


def _find_unknown(root: ET.Element) -> list[str]:
    """Say which elements stand where none of their names is read."""
    unknown = Counter(
        child.tag
        for element in root.iter()
        for child in element
        if child.tag not in KNOWN.get(element.tag, {child.tag})
    )
    return [
        f'{count} elements {excerpt(tag)} are not known and passed over'
        for tag, count in unknown.items()
    ]


def _find_oddities(
    element: ET.Element, targets: tuple[Target, ...], number: int
) -> list[str]:
    """Say where a frame contradicts itself."""
    found = []
    density = element.get('density')
    if density is not None and density.strip() != str(len(targets)):
        found.append(
            f'frame {number} has density="{density}" but {len(targets)} '
            'targets'
        )
    if len({target.track_id for target in targets}) != len(targets):
        found.append(f'frame {number} lists a target id twice')
    return found


def _read_target(element: ET.Element, place: str) -> Target:
    """Read one ``<target>``."""
    track_id = _read_number(element, ('id',), f'{place}: <target>')
    place = f'{place}: target {excerpt(element.get("id"))}'
    if track_id < 0 or track_id != int(track_id):
        raise InputError(f'{place}: expected a whole number as its id')
    box = element.find('box')
    attribute = element.find('attribute')
    if box is None:
        raise InputError(f'{place}: expected a <box>, got none')
    if attribute is None or not attribute.get('vehicle_type'):
        raise InputError(
            f'{place}: expected <attribute vehicle_type="...">, got none'
        )
    return Target(
        track_id=int(track_id),
        box=_read_box(box, place),
        vehicle_type=attribute.get('vehicle_type').strip().lower(),
    )


def _read_box(element: ET.Element, place: str) -> Box:
    """Read a ``<box>``: pixels from 1 to pixels from 0, xywh to xyxy."""
    left = _read_number(element, ('left',), place) - 1
    top = _read_number(element, ('top',), place) - 1
    width = _read_number(element, ('width', 'w'), place)
    height = _read_number(element, ('height', 'h'), place)
    if width <= 0 or height <= 0:
        raise InputError(
            f'{place}: expected a box of positive size, got width={width}, '
            f'height={height}'
        )
    return left, top, left + width, top + height


def _read_number(
    element: ET.Element, names: tuple[str, ...], place: str
) -> float:
    """Read the first of several spellings of an attribute as a number."""
    text = next((element.get(n) for n in names if element.get(n)), None)
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(
            f'{place}: expected a number in the attribute '
            f'{" or ".join(map(repr, names))}, got {excerpt(text)}'
        )
    return value

"""Read UA-DETRAC as it was released.

The release exists in several editions. All of these are read:

- ``MVI_20011.xml`` (four vehicle types in lower case) and
  ``MVI_20011_v3.xml`` (thirteen capitalised types and a colour);
- ``left/top/width/height`` and ``left/top/w/h`` boxes;
- frames without vehicles, which have no ``<frame>`` element at all.

Boxes are stored in pixels counted from 1 and frames numbered from 1; here
both count from 0.
"""

import math
import os
import os.path as osp
import re
import warnings
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from mmskip.reading import SHOWN, InputError, excerpt, reads

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
# Where releases and re-packs put images and annotations, those of one split
# before those of all; the first folder that holds any is used.
SPLIT_IMAGE_FOLDERS = (
    'Insight-MVT_Annotation_{split}',
    'DETRAC-{lower}-data/Insight-MVT_Annotation_{split}',
)
ALL_IMAGE_FOLDERS = ('DETRAC-Images/DETRAC-Images', 'DETRAC-Images')
ANNOTATION_FOLDERS = (
    'DETRAC-{split}-Annotations-XML',
    'DETRAC-{split}-Annotations-XML/DETRAC-{split}-Annotations-XML',
    'DETRAC-{split}-Annotations-XML-v3',
    'DETRAC-{split}-Annotations-XML-v3/DETRAC-{split}-Annotations-XML-v3',
)
_FRAME_NAME = re.compile(r'img(\d{5,})\.jpe?g', re.IGNORECASE)


@dataclass(frozen=True)
class Target:
    """One annotated vehicle in one frame.

    Attributes:
        track_id: Number of the vehicle, unique within its sequence.
        box: ``(x1, y1, x2, y2)`` in pixels from 0; it may stick out of the
            image by a little.
        vehicle_type: Type of the vehicle, in lower case.
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


def find_sequences(
    data_root: str,
    split: str,
    wanted: Sequence[str] | None = None,
    image_folder: str | None = None,
    annotation_folder: str | None = None,
) -> list[tuple[str, str, str]]:
    """Pair every sequence's folder of images with its annotation file.

    Args:
        data_root: Folder of the release.
        split: 'train' or 'test'.
        wanted: Names of the sequences to use. None means all of the split:
            whatever is annotated, and in folders of one split whatever has
            images too.
        image_folder: Where the image folders are, if not where usual.
        annotation_folder: Where the XML files are, likewise.

    Returns:
        ``(name, image folder, annotation file)``, sorted by name.

    Raises:
        FileNotFoundError: Folders, images or annotations are missing.
        InputError: Two files claim to annotate one sequence.
    """
    names = {'split': split.capitalize(), 'lower': split}
    of_split = [folder.format(**names) for folder in SPLIT_IMAGE_FOLDERS]
    image_folder = image_folder or _first_with(
        _list_image_folders, data_root, [*of_split, *ALL_IMAGE_FOLDERS]
    )
    annotation_folder = annotation_folder or _first_with(
        _list_annotations,
        data_root,
        [folder.format(**names) for folder in ANNOTATION_FOLDERS],
    )
    images = _list_image_folders(image_folder)
    annotations = _list_annotations(annotation_folder)
    if wanted is None:
        wanted = set(annotations)
        if osp.basename(osp.normpath(image_folder)) in map(
            osp.basename, of_split
        ):
            wanted |= set(images)
    if not wanted:
        raise FileNotFoundError(
            f'{annotation_folder}: expected annotation files such as '
            'MVI_20011.xml, found none'
        )
    for name in sorted(wanted):
        if name not in images:
            missing = osp.join(image_folder, name)
        elif name not in annotations:
            missing = f'{osp.join(annotation_folder, name)}.xml (or _v3.xml)'
        else:
            continue
        raise FileNotFoundError(
            f'{missing}: expected this for sequence {name}, found nothing; '
            'extract it, or list the `sequences` that you have'
        )
    return [(name, images[name], annotations[name]) for name in sorted(wanted)]


def list_frames(image_folder: str) -> list[str]:
    """List the images ``img00001.jpg``, ``img00002.jpg``, ... of a sequence.

    Args:
        image_folder: Folder of one sequence.

    Returns:
        Their paths in order; entry ``i`` is the image of frame number
        ``i + 1``. Files with other names are passed over.

    Raises:
        FileNotFoundError: There is none, or one is missing in between.
        InputError: Two files have the same number, or one has number 0.
    """
    found: dict[int, str] = {}
    for name in sorted(os.listdir(image_folder)):
        match = _FRAME_NAME.fullmatch(name)
        if match is None:
            continue
        number = int(match[1])
        if number == 0:
            raise InputError(
                f'{osp.join(image_folder, name)}: expected frame numbers '
                'from 1 on, got 0; the images were renamed and would not fit '
                'their annotation'
            )
        if number in found:
            raise InputError(
                f'{osp.join(image_folder, name)}: expected one image of '
                f'frame {number}, got also {found[number]}'
            )
        found[number] = osp.join(image_folder, name)
    if not found:
        raise FileNotFoundError(
            f'{image_folder}: expected images img00001.jpg, img00002.jpg, '
            '..., found none'
        )
    for number in range(1, max(found) + 1):
        if number not in found:
            raise FileNotFoundError(
                f'{osp.join(image_folder, f"img{number:05d}.jpg")}: expected '
                f'this image, because there is img{max(found):05d}.jpg; '
                'extract the sequence again (to use every n-th frame only, '
                'keep the images and set `frame_stride`)'
            )
    return [found[number] for number in sorted(found)]


@reads('an image', 'extract it again from the archive')
def read_image_size(path: str) -> tuple[int, int]:
    """Read ``(width, height)`` from the header of an image.

    Raises:
        InputError: The file is not an image.
    """
    with Image.open(path) as image:
        return image.size


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


def _first_with(listing, data_root: str, candidates: list[str]) -> str:
    """Return the first candidate folder in which ``listing`` finds any."""
    for candidate in candidates:
        folder = osp.join(data_root, candidate)
        if osp.isdir(folder) and listing(folder):
            return folder
    raise FileNotFoundError(
        f'{data_root}: expected UA-DETRAC with one of the folders '
        f'{", ".join(candidates)}, found none with anything in it; set '
        '`data_root`, or name your folders in `data_prefix=dict(img=...)` '
        'and `ann_file`'
    )


def _list_image_folders(folder: str) -> dict[str, str]:
    """Map sequence names to their folders of images."""
    with os.scandir(folder) as entries:
        return {
            entry.name: osp.join(folder, entry.name)
            for entry in entries
            if entry.is_dir() and entry.name.startswith('MVI_')
        }


def _list_annotations(folder: str) -> dict[str, str]:
    """Map sequence names to their annotation files."""
    found: dict[str, str] = {}
    for file_name in sorted(os.listdir(folder)):
        stem, extension = osp.splitext(file_name)
        if extension.lower() != '.xml':
            continue
        name = stem.removesuffix('_v3')
        if name in found:
            raise InputError(
                f'{osp.join(folder, file_name)}: expected one annotation of '
                f'{name}, got also {found[name]}; keep one of them'
            )
        found[name] = osp.join(folder, file_name)
    return found

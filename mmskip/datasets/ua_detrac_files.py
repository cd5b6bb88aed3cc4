"""Find the sequences of UA-DETRAC on disk, whoever packed them."""

import os
import os.path as osp
import re
from collections.abc import Sequence

from PIL import Image

from mmskip.runtime import InputError
from mmskip.runtime.reading import reads

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

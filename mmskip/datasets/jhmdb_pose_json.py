"""J-HMDB's poses in the form of mmpose's annotation files."""

import os
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

from mmskip.runtime import InputError
from mmskip.runtime.reading import excerpt, read_json, reads

from .jhmdb_poses import ReadingReport, list_videos, read_pose_video
from .mat_files import MatReader

NAMES = (
    'neck',
    'belly',
    'head',
    *(
        f'{side}_{part}'
        for part in ('shoulder', 'hip', 'elbow', 'knee', 'wrist', 'ankle')
        for side in ('right', 'left')
    ),
)
# Numbers of images: video times this, plus frame.
IMAGES_PER_VIDEO = 10_000
EXPECTED = "mmpose's annotation file (JSON)"
NUMBERS = (int, float)


def read_pose_json(
    root: str | os.PathLike, split: int, subset: str, variant: str = 'sub'
) -> tuple[dict[str, Any], ReadingReport]:
    """Read a split of a release as mmpose's ``Sub<split>_<subset>.json``.

    Coordinates count from 1, boxes are ``x, y, w, h`` with the last pixel at
    ``x + w``, and every joint is visible, as there.

    Args:
        root: Folder of the release.
        split: 1, 2 or 3.
        subset: ``train`` or ``test``.
        variant: ``sub`` for sub-JHMDB, ``full`` for J-HMDB.

    Returns:
        What the JSON file holds, and what was found on the way.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: An argument is out of range, or a file is not what it
            should be.
    """
    report = ReadingReport()
    images, annotations = [], []
    names = list_videos(root, split, subset, variant)
    with MatReader() as reader:
        videos = [
            read_pose_video(root, name, report, reader) for name in names
        ]
    for number, video in enumerate(videos, 1):
        for frame, (joints, box) in enumerate(
            zip(video.joints, video.boxes, strict=True)
        ):
            if box[0] != box[0]:  # NaN: nobody there
                continue
            image = dict(
                id=number * IMAGES_PER_VIDEO + frame + 1,
                file_name=video.file_name(frame),
                width=video.size[0],
                height=video.size[1],
                vid_id=f'{number:05d}',
                frame_id=number * IMAGES_PER_VIDEO + frame + 1,
                nframes=len(video.boxes),
                is_labeled=True,
            )
            x1, y1, x2, y2 = box.tolist()
            points = [v for x, y in joints.tolist() for v in (x, y, 2.0)]
            images.append(image)
            annotations.append(
                dict(
                    id=image['id'],
                    image_id=image['id'],
                    category_id=1,
                    track_id=0,
                    iscrowd=0,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    keypoints=points,
                )
            )
    person = dict(id=1, name='person', keypoints=list(NAMES))
    content = dict(images=images, annotations=annotations, categories=[person])
    return content, report


@reads(EXPECTED)
def check_pose_json(path: str | os.PathLike) -> None:
    """Refuse an annotation file that mmpose would misread.

    Args:
        path: ``Sub<split>_<subset>.json``, or one like it.

    Raises:
        InputError: An image or an annotation lacks what is needed, has
            numbers that cannot be, or an id that another has.
    """
    content = read_json(path, EXPECTED)
    lists = ('images', 'annotations')
    if not isinstance(content, dict) or not all(
        isinstance(content.get(name), list) for name in lists
    ):
        raise InputError(
            f'{path}: expected an object with the lists images and '
            f'annotations, got {excerpt(content)}'
        )
    images = _check_entries(
        f'{path}: images',
        content['images'],
        _is_image,
        'id, width, height and file_name like video/00001.png',
    )
    _check_entries(
        f'{path}: annotations',
        content['annotations'],
        lambda annotation: _is_annotation(annotation, images),
        f'id, image_id of an image, 4 numbers of bbox and {3 * len(NAMES)} '
        'of keypoints',
    )


def _check_entries(
    place: str,
    entries: list,
    check: Callable[[Mapping], bool],
    needed: str,
) -> set[int]:
    """Ids of entries, each of which has what is needed and an own one."""
    ids: set[int] = set()
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, Mapping) or not check(entry):
            raise InputError(
                f'{place}, entry {number}: expected {needed}, got '
                f'{excerpt(entry)}'
            )
        if entry['id'] in ids:
            raise InputError(
                f'{place}, entry {number}: expected every id once, got '
                f'{entry["id"]} again'
            )
        ids.add(entry['id'])
    return ids


def _is_image(image: Mapping) -> bool:
    path = image.get('file_name')
    sizes = [image.get(key) for key in ('width', 'height')]
    return (
        type(image.get('id')) is int
        and isinstance(path, str)
        and PurePosixPath(path).stem.isdecimal()
        and bool(PurePosixPath(path).parent.name)
        and all(type(size) is int and size > 0 for size in sizes)
    )


def _is_annotation(annotation: Mapping, images: set) -> bool:
    return (
        type(annotation.get('id')) is int
        and type(annotation.get('image_id')) is int
        and annotation['image_id'] in images
        and isinstance(annotation.get('track_id', 0), (int, str, type(None)))
        and _is_row(annotation.get('bbox'), 4)
        and _is_row(annotation.get('keypoints'), 3 * len(NAMES))
    )


def _is_row(values: Any, length: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == length
        and all(type(value) in NUMBERS for value in values)
    )

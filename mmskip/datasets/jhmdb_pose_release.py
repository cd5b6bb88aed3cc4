"""Read the joints of J-HMDB or sub-JHMDB, as released or for mmpose.

joint_positions/<action>/<video>/joint_positions.mat    pos_img (2 x 15 x T)
puppet_mask/<action>/<video>/puppet_mask.mat            part_mask (H x W x T)
Rename_Images/<action>/<video>/00001.png
sub_splits/<action>_test_split_<1..3>.txt               of sub-JHMDB
splits/<action>_test_split<1..3>.txt                    of J-HMDB

Sub-JHMDB, 316 videos of twelve actions that show the whole body, is what
papers on pose report. Coordinates count from 1, in these files as in
mmpose's JSON.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from mmskip.reading import InputError, excerpt, read_json, reads

from .jhmdb_release import MASK, NUM_SPLITS, read_mask, read_matrix, read_split
from .mat_files import MatReader, mat_reader

NUM_JOINTS = 15
# Folder of the splits, and how its files end.
VARIANTS = dict(
    sub=('sub_splits', '_test_split_{}.txt'),
    full=('splits', '_test_split{}.txt'),
)
MARK_OF_SUBSET = dict(train='train_videos', test='test_videos')
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


class PoseVideo(NamedTuple):
    """A video of one person.

    Attributes:
        name: ``action/video``.
        size: ``(width, height)`` of its images.
        joints: x and y from 1, shape (T, 15, 2).
        boxes: First column and row and last column and row of the mask, from
            1, shape (T, 4); NaN in frames that do not show the person.
    """

    name: str
    size: tuple[int, int]
    joints: np.ndarray
    boxes: np.ndarray

    def file_name(self, frame: int) -> str:
        """Return the path of a frame, from 0, below the release's folder."""
        return f'Rename_Images/{self.name}/{frame + 1:05d}.png'


@dataclass
class ReadingReport:
    """A report of what was read, and of what was not as expected.

    Attributes:
        videos: Number of videos.
        frames: Number of frames with a person.
        absent: Frames left out by video, because their mask is empty.
        surplus: Frames left out by video, because there is an image, a mask
            or a pose too few.
        outside: Joints outside of the image by video; they are kept, and
            count as any other, as in the protocol of earlier papers.
    """

    videos: int = 0
    frames: int = 0
    absent: dict[str, int] = field(default_factory=dict)
    surplus: dict[str, int] = field(default_factory=dict)
    outside: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f'{self.videos:,} videos, {self.frames:,} frames']
        for what, counts in (
            ('frames left out, whose mask is empty', self.absent),
            (
                'frames left out, without image, mask or pose',
                self.surplus,
            ),
            ('joints outside of the image, kept', self.outside),
        ):
            if counts:
                most = max(counts, key=counts.get)
                lines.append(
                    f'{sum(counts.values()):,} {what}, in {len(counts)} '
                    f'videos, most in {most} ({counts[most]})'
                )
        return '; '.join(lines)


def list_videos(
    root: str | os.PathLike, split: int, subset: str, variant: str = 'sub'
) -> dict[str, Path]:
    """List the videos ``action/video`` of a split, with their files.

    Args:
        root: Folder of the release.
        split: 1, 2 or 3.
        subset: ``train`` or ``test``.
        variant: ``sub`` for sub-JHMDB, ``full`` for J-HMDB.

    Raises:
        FileNotFoundError: The splits, or the frames of a video, are missing.
        ValueError: An argument is out of range.
        InputError: A split is not what it should be.
    """
    for name, value, known in (
        ('variant', variant, tuple(VARIANTS)),
        ('subset', subset, tuple(MARK_OF_SUBSET)),
        ('split', split, tuple(range(1, NUM_SPLITS + 1))),
    ):
        if value not in known:
            raise ValueError(f'expected {name} in {known}, got {value!r}')
    root = Path(root)
    folder, pattern = VARIANTS[variant]
    ending = pattern.format(split)
    found = {}
    lists = sorted((root / folder).glob(f'*{ending}'))
    for path in lists:
        action = path.name.removesuffix(ending)
        for video, mark in read_split(path).items():
            if mark == MARK_OF_SUBSET[subset]:
                found[f'{action}/{video}'] = path
    if not found:
        raise FileNotFoundError(
            f'{root / folder}: expected lists *{ending} with videos to '
            f'{subset}, got {", ".join(map(str, lists[:1])) or "none"}; '
            f'extract {folder}.zip'
        )
    for name, path in found.items():
        frames = root / 'Rename_Images' / name
        if not frames.is_dir():
            raise FileNotFoundError(
                f'{frames}: expected the frames of this video, which {path} '
                'lists; extract Rename_Images.tar.gz again, or take it off '
                'the list'
            )
    return found


def read_pose_video(
    root: str | os.PathLike,
    name: str,
    report: ReadingReport,
    reader: MatReader | None = None,
) -> PoseVideo:
    """Read the poses and boxes of a video.

    Where images, masks and poses differ in their number, what all have is
    read.

    Args:
        root: Folder of the release.
        name: ``action/video``.
        report: Counts this video and its flaws; changed in place.
        reader: Reads the files of MATLAB, if one is running already.

    Raises:
        FileNotFoundError: A file is missing.
        InputError: A file is not what it should be, or no frame shows the
            person.
    """
    root = Path(root)
    path = root / MASK.format(name)
    with mat_reader(reader) as reader:
        joints = _read_joints(reader, root, name)
        mask = read_mask(reader, path)
    counts = (_count_images(root, name), len(joints), mask.shape[2])
    frames = min(counts)
    boxes = np.stack([_box_of(mask[:, :, t]) for t in range(frames)])
    present = ~np.isnan(boxes[:, 0])
    if not present.any():
        raise InputError(
            f'{path}: expected a mask that shows a person, got {frames} '
            'empty ones; take the video off its split'
        )
    size = (mask.shape[1], mask.shape[0])
    joints = joints[:frames]
    outside = ((joints < 1) | (joints > size)).any(-1) & present[:, None]
    report.videos += 1
    report.frames += int(present.sum())
    for flaws, count in (
        (report.surplus, max(counts) - frames),
        (report.absent, int((~present).sum())),
        (report.outside, int(outside.sum())),
    ):
        if count:
            flaws[name] = count
    return PoseVideo(name, size, joints, boxes)


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
            image = _image_entry(video, number, frame)
            images.append(image)
            annotations.append(_person_entry(image['id'], joints, box))
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


def _read_joints(reader: MatReader, root: Path, name: str) -> np.ndarray:
    """Read ``pos_img`` of a video as (T, 15, 2)."""
    path = root / 'joint_positions' / name / 'joint_positions.mat'
    joints = read_matrix(reader, path, 'pos_img')
    # MATLAB drops the last dimension of a single frame.
    joints = joints[..., None] if joints.ndim == 2 else joints
    if (
        joints.ndim != 3
        or joints.shape[:2] != (2, NUM_JOINTS)
        or not joints.size
    ):
        raise InputError(
            f'{path}: expected pos_img of shape (2, {NUM_JOINTS}, frames), '
            f'got {joints.shape}; extract it again'
        )
    return joints.transpose(2, 1, 0).astype(np.float64)


def _count_images(root: Path, name: str) -> int:
    """Count the frames on disk; they must be 00001.png and so on."""
    folder = root / 'Rename_Images' / name
    images = sorted(path.name for path in folder.glob('*.png'))
    if not images or images[-1] != f'{len(images):05d}.png':
        got = f'{images[0]} to {images[-1]}' if images else 'none'
        raise InputError(
            f'{folder}: expected frames from 00001.png without gaps, got '
            f'{len(images)} ({got}); extract Rename_Images.tar.gz again'
        )
    return len(images)


def _box_of(mask: np.ndarray) -> np.ndarray:
    """Find the first and last column and row above 0, from 1, or NaN."""
    rows, columns = np.nonzero(mask > 0)
    if not len(rows):
        return np.full(4, np.nan)
    low = (columns.min(), rows.min())
    return np.array([*low, columns.max(), rows.max()], np.float64) + 1


def _image_entry(video: PoseVideo, number: int, frame: int) -> dict[str, Any]:
    identity = number * IMAGES_PER_VIDEO + frame + 1
    return dict(
        id=identity,
        file_name=video.file_name(frame),
        width=video.size[0],
        height=video.size[1],
        vid_id=f'{number:05d}',
        frame_id=identity,
        nframes=len(video.boxes),
        is_labeled=True,
    )


def _person_entry(
    image_id: int, joints: np.ndarray, box: np.ndarray
) -> dict[str, Any]:
    x1, y1, x2, y2 = box.tolist()
    return dict(
        id=image_id,
        image_id=image_id,
        category_id=1,
        track_id=0,
        iscrowd=0,
        bbox=[x1, y1, x2 - x1, y2 - y1],
        keypoints=[v for x, y in joints.tolist() for v in (x, y, 2.0)],
    )


def _check_entries(
    place: str,
    entries: list,
    check: Callable[[Mapping], bool],
    needed: str,
) -> set[int]:
    """Return the ids of entries, complete and with an id of their own."""
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

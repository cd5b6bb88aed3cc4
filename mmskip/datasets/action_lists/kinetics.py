"""Read the files of Kinetics-400 and of its subset Mini-Kinetics-200.

The subset is published in two ways: as lists ``name frames label``
(AR-Net, OCSampler), and as Kinetics' own CSV files with a list of the 200
classes (FrameExit). The lists of OCSampler are a few videos short.
"""

import csv
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from .lists import ActionEntry

# Rows of the CSV files of the release.
KINETICS400_SIZES = dict(train=(246_534,), val=(19_906,))
# The thesis' sizes, and the lines of OCSampler's lists.
MINI_KINETICS_SIZES = dict(train=(121_215, 121_069), val=(9_867, 9_863))
COLUMNS = ('label', 'youtube_id', 'time_start', 'time_end')


def read_kinetics_csv(
    path: str | os.PathLike, classes: Sequence[str] | None = None
) -> tuple[list[str], list[ActionEntry]]:
    """Read a CSV file ``label,youtube_id,time_start,time_end,split,is_cc``.

    A name is ``<youtube id>_<start>_<end>`` with six digits each, as the
    clips are named.

    Args:
        path: The file.
        classes: Class names in the order of their indices; videos of other
            classes are left out. Defaults to all, in alphabetical order.

    Returns:
        Class names and videos.

    Raises:
        ValueError: The file is not such a file, or a class has no video.
    """
    with open(path, encoding='utf-8', newline='') as file:
        rows = list(csv.DictReader(file))
    if not rows or not set(COLUMNS) <= set(rows[0]):
        raise ValueError(
            f'{path}: expected a CSV file with the columns '
            f'{", ".join(COLUMNS)}, got {", ".join(rows[0] if rows else ())}; '
            "use the release's file with labels"
        )
    labels = [_normalise(row['label']) for row in rows]
    if classes is None:
        classes = sorted(set(labels))
    index = {_normalise(name): number for number, name in enumerate(classes)}
    absent = sorted(set(index) - set(labels))
    if absent:
        raise ValueError(
            f'{path}: expected videos of all {len(index)} classes, got none '
            f'of {", ".join(absent[:3])}; give the class list of this release'
        )
    entries = [
        ActionEntry(_clip_name(path, row), (index[label],))
        for row, label in zip(rows, labels, strict=True)
        if label in index
    ]
    return list(classes), entries


def read_video_list(
    path: str | os.PathLike, num_classes: int = 200
) -> list[ActionEntry]:
    """Read a list ``name frames label``; frames are counted anew on disk.

    Args:
        path: The list; a name may be a path, of which the last part counts.
        num_classes: Number of classes.

    Raises:
        ValueError: A line is not of that form, or its label is not one of
            ``0..num_classes - 1``.
    """
    entries = []
    for number, line in enumerate(
        Path(path).read_text(encoding='utf-8').splitlines(), 1
    ):
        if not line.strip():
            continue
        name, *columns = line.rsplit(maxsplit=2)
        if len(columns) != 2 or not all(c.isdecimal() for c in columns):
            raise ValueError(
                f'{path}: line {number}: expected "name frames label", got '
                f'{line!r}'
            )
        label = int(columns[1])
        if label >= num_classes:
            raise ValueError(
                f'{path}: line {number}: expected a label 0..'
                f'{num_classes - 1}, got {label}; is this another data set?'
            )
        entries.append(ActionEntry(_stem(name), (label,)))
    return entries


def _normalise(label: str) -> str:
    """Class names occur with spaces and with underscores."""
    return label.strip().replace('_', ' ')


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in ('.mp4', '.mkv') else path.name


def _clip_name(path: str | os.PathLike, row: dict[str, str]) -> str:
    try:
        start, end = (int(float(row[key])) for key in COLUMNS[2:])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f'{path}: expected times in seconds of {row["youtube_id"]}, got '
            f'{row["time_start"]!r} and {row["time_end"]!r}'
        ) from error
    return f'{row["youtube_id"]}_{start:06d}_{end:06d}'

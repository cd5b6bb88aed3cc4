"""Read the video-level annotation of THUMOS'14 (101 classes).

``validation_set.mat`` holds the struct array ``validation_videos``,
``test_set_meta.mat`` the struct array ``test_videos``.
"""

import os
from pathlib import PurePosixPath
from typing import Any

from mmskip.datasets.mat_files import MatReader, mat_reader
from mmskip.runtime import InputError
from mmskip.runtime.reading import excerpt, read_lines, reads

from .lists import ActionEntry, refuse_repeated

THUMOS14_SIZES = dict(validation=(1_010,), test=(1_574,))
NUM_CLASSES = 101
NAME = 'video_name'
FIELD = 'primary_action_index'


@reads("THUMOS'14's validation_set.mat or test_set_meta.mat")
def read_thumos14(
    path: str | os.PathLike, reader: MatReader | None = None
) -> list[ActionEntry]:
    """Read the videos of a split with their primary action.

    Indices count from 1 in the file and from 0 here. Background videos, and
    videos whose index is empty or 0, get no label: they are negatives of
    every class.

    Args:
        path: ``validation_set.mat`` or ``test_set_meta.mat``.
        reader: Reads the file, if one is running already.

    Raises:
        InputError: The file is not one of the two, lists a video twice, or
            an index is not one of 1..101.
    """
    with mat_reader(reader) as reader:
        rows = reader.rows(path, (NAME, FIELD))
    if not rows:
        raise InputError(f'{path}: expected videos, got none')
    numbered = []
    for number, row in enumerate(rows, 1):
        place = f'{path}: element {number}'
        if not isinstance(row[NAME], str) or not row[NAME].strip():
            raise InputError(
                f'{place}: expected a text as {NAME}, got '
                f'{excerpt(row[NAME])}; extract it again'
            )
        name = PurePosixPath(row[NAME].strip()).stem
        place = f'{place} ({excerpt(name)})'
        numbered.append((number, ActionEntry(name, _labels(place, row))))
    return refuse_repeated(path, numbered, 'element')


@reads('class_index.txt')
def read_class_index(path: str | os.PathLike) -> list[str]:
    """Read ``class_index.txt``, lines ``1 ApplyEyeMakeup``.

    Raises:
        InputError: It does not number 101 different classes from 1.
    """
    pairs = [line.split() for _, line in read_lines(path)]
    numbers = [str(number) for number in range(1, NUM_CLASSES + 1)]
    names = [pair[-1] for pair in pairs]
    if [pair[0] for pair in pairs if len(pair) == 2] != numbers or len(
        set(names)
    ) != len(pairs):
        raise InputError(
            f'{path}: expected {NUM_CLASSES} lines "number name", numbered '
            f'from 1, got {len(pairs)} lines; use the list of all classes, '
            'not that of the 20 with temporal annotation'
        )
    return names


def _labels(place: str, row: dict[str, Any]) -> tuple[int, ...]:
    """The primary action of a video, from 0; empty if it has none."""
    if str(row.get('background_video')).upper() == 'YES':
        return ()
    index = row[FIELD]
    if index in ([], [0]):
        return ()
    label = index[0] if isinstance(index, list) else index
    if label not in range(1, NUM_CLASSES + 1):
        raise InputError(
            f'{place}: expected {FIELD} 1..{NUM_CLASSES}, got {excerpt(label)}'
        )
    return (int(label) - 1,)

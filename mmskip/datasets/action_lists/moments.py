"""Read the files of Moments in Time.

``trainingSet.csv`` and ``validationSet.csv`` have no header; their first
column is ``class/file.mp4``, further ones (label, votes) are not used.
``moments_categories.txt`` has lines ``name,index``.
"""

import csv
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from .lists import ActionEntry

# The sizes that the VA-RED^2 thesis gives (section 4.1).
MOMENTS_SIZES = dict(training=(802_244,), validation=(33_900,))


def read_moments_classes(path: str | os.PathLike) -> list[str]:
    """Read ``moments_categories.txt``.

    Returns:
        Class names in the order of their indices.

    Raises:
        ValueError: A line is not ``name,index``, or the indices are not
            0, 1, 2 and so on.
    """
    classes: dict[int, str] = {}
    lines = Path(path).read_text(encoding='utf-8').splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, index = line.strip().rpartition(',')
        if not name or not index.isdecimal() or int(index) in classes:
            raise ValueError(
                f'{path}: line {number}: expected "name,index" with an index '
                f'of its own, got {line!r}; use moments_categories.txt'
            )
        classes[int(index)] = name
    if not classes or set(classes) != set(range(len(classes))):
        raise ValueError(
            f'{path}: expected indices from 0 without gaps, got '
            f'{sorted(classes)[:3]} and on; use moments_categories.txt'
        )
    return [classes[index] for index in range(len(classes))]


def read_moments_csv(
    path: str | os.PathLike, classes: Sequence[str]
) -> list[ActionEntry]:
    """Read ``trainingSet.csv`` or ``validationSet.csv``.

    The folder is the label, as in mmaction2. Videos are named by it, too,
    since a file name alone may occur in several: ``class/file``.

    Args:
        path: The file.
        classes: Class names in the order of their indices.

    Raises:
        ValueError: A row does not begin with ``class/file.mp4`` of a class.
    """
    index = {name: number for number, name in enumerate(classes)}
    entries = []
    with open(path, encoding='utf-8', newline='') as file:
        for number, row in enumerate(csv.reader(file), 1):
            if not row:
                continue
            video = PurePosixPath(row[0].strip())
            label = index.get(video.parent.name)
            if label is None:
                raise ValueError(
                    f'{path}: line {number}: expected "class/file.mp4" of one '
                    f'of {len(classes)} classes, got {row[0]!r}; give the '
                    'files of one release'
                )
            name = f'{video.parent.name}/{video.stem}'
            entries.append(ActionEntry(name, (label,)))
    return entries

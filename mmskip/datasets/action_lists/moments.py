"""Read the files of Moments in Time.

``trainingSet.csv`` and ``validationSet.csv`` have no header; their first
column is ``class/file.mp4``, further ones (label, votes) are not used.
``moments_categories.txt`` has lines ``name,index``.
"""

import os
from collections.abc import Sequence
from pathlib import PurePosixPath

from mmskip.runtime import InputError
from mmskip.runtime.reading import excerpt, read_csv, read_lines, reads

from .lists import ActionEntry, refuse_repeated

# The sizes that the VA-RED^2 thesis gives (section 4.1).
MOMENTS_SIZES = dict(training=(802_244,), validation=(33_900,))


@reads('moments_categories.txt')
def read_moments_classes(path: str | os.PathLike) -> list[str]:
    """Read ``moments_categories.txt``.

    Returns:
        Class names in the order of their indices.

    Raises:
        InputError: A line is not ``name,index``, or the indices are not
            0, 1, 2 and so on.
    """
    classes: dict[int, str] = {}
    for number, line in read_lines(path):
        name, _, index = line.rpartition(',')
        if (
            not name
            or name in classes.values()
            or not index.isdecimal()
            or int(index) in classes
        ):
            raise InputError(
                f'{path}: line {number}: expected "name,index" with a name '
                f'and an index of its own, got {excerpt(line)}; use '
                'moments_categories.txt'
            )
        classes[int(index)] = name
    if set(classes) != set(range(len(classes))):
        raise InputError(
            f'{path}: expected indices from 0 without gaps, got '
            f'{sorted(classes)[:3]} and on; use moments_categories.txt'
        )
    return [classes[index] for index in range(len(classes))]


@reads('a CSV file of Moments in Time')
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
        InputError: A row does not begin with ``class/file.mp4`` of a class,
            or lists a video anew, or there is none.
    """
    index = {name: number for number, name in enumerate(classes)}
    numbered = []
    for number, row in read_csv(path):
        video = PurePosixPath(row[0].strip())
        label = index.get(video.parent.name)
        if label is None:
            raise InputError(
                f'{path}: line {number}: expected "class/file.mp4" of one '
                f'of {len(classes)} classes, got {excerpt(row[0])}; give the '
                'files of one release'
            )
        name = f'{video.parent.name}/{video.stem}'
        numbered.append((number, ActionEntry(name, (label,))))
    if not numbered:
        raise InputError(f'{path}: expected rows, got an empty file')
    return refuse_repeated(path, numbered)

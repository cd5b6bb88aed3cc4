"""Read and list data sets that have a file of each class and split.

HMDB51: ``testTrainMulti_7030_splits/<class>_test_split<1..3>.txt``. JHMDB:
``splits/<class>_test_split<1..3>.txt``, and of sub-JHMDB
``sub_splits/<class>_test_split_<1..3>.txt``. Lines are ``video.avi 1``: 1
trains, 2 tests, 0 (HMDB51) does neither.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mmskip.reading import InputError, excerpt, read_lines, reads

from .lists import (
    ActionEntry,
    ListReport,
    check_size,
    convert_split,
    write_classes,
)

HMDB51_SIZES = dict(train=(3_570,), test=(1_530,))
# Videos of both subsets together.
JHMDB_SIZES = {'splits': 928, 'sub_splits': 316}
MARKS = {'0': 'unused', '1': 'train', '2': 'test'}
NUM_SPLITS = 3


class ClassSplits(NamedTuple):
    """The videos and the classes of a split.

    Attributes:
        classes: Names in alphabetical order, the order of their labels.
        train: Videos ``class/video`` to train on.
        test: Videos to test on.
        unused: Number of the others.
    """

    classes: list[str]
    train: list[ActionEntry]
    test: list[ActionEntry]
    unused: int


def read_class_splits(folder: str | os.PathLike, split: int) -> ClassSplits:
    """Read one of the three splits.

    Args:
        folder: Folder of the split files.
        split: 1, 2 or 3.

    Raises:
        FileNotFoundError: There are no files of the split.
        ValueError: There is no such split.
        InputError: A file is empty or has other lines, or lists a video
            twice.
    """
    if split not in range(1, NUM_SPLITS + 1):
        raise ValueError(f'expected split 1..{NUM_SPLITS}, got {split!r}')
    folder = Path(folder)
    paths: dict[str, Path] = {}
    for ending in (f'_test_split{split}.txt', f'_test_split_{split}.txt'):
        for path in folder.glob(f'*{ending}'):
            paths[path.name.removesuffix(ending)] = path
    if not paths:
        raise FileNotFoundError(
            f'{folder}: expected files <class>_test_split{split}.txt, got '
            'none; extract the archive of the splits there'
        )
    classes = sorted(paths)
    found: dict[str, list[ActionEntry]] = {m: [] for m in MARKS.values()}
    for label, name in enumerate(classes):
        for video, subset in read_marks(paths[name], MARKS).items():
            entry = ActionEntry(f'{name}/{video}', (label,))
            found[subset].append(entry)
    return ClassSplits(
        classes, found['train'], found['test'], len(found['unused'])
    )


@reads('a split file')
def read_marks(
    path: str | os.PathLike, meanings: Mapping[str, str]
) -> dict[str, str]:
    """Read lines ``video.avi 1``.

    Args:
        path: The file.
        meanings: Meaning of each mark that may occur.

    Returns:
        The mark's meaning by video, without suffix.

    Raises:
        FileNotFoundError: There is no such file.
        InputError: It is empty, has other lines, or lists a video twice.
    """
    found: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, line in read_lines(path):
        words = line.split()
        if len(words) != 2 or words[1] not in meanings:
            raise InputError(
                f'{path}: line {number}: expected lines "video.avi '
                f'{"|".join(meanings)}" ({", ".join(meanings.values())}), '
                f'got {excerpt(line)}'
            )
        video = words[0].rpartition('.')[0] or words[0]
        if video in found:
            raise InputError(
                f'{path}: line {number}: expected every video once, got '
                f'{excerpt(words[0])}, which line {lines[video]} lists, too '
                f'({found[video]}); mend the split'
            )
        found[video] = meanings[words[1]]
        lines[video] = number
    return found


def write_hmdb51_lists(
    splits: str | os.PathLike,
    media: str | os.PathLike,
    out_dir: str | os.PathLike,
    split: int,
    rawframes: bool = False,
    published: bool = False,
) -> list[ListReport]:
    """List a split of HMDB51, or of data in its layout, for mmaction2.

    Args:
        splits: Folder of the split files.
        media: Folder with a folder of each class, of videos or of folders of
            frames.
        out_dir: Where ``train_split_<split>_list_videos.txt``, the one of
            ``test`` and ``classes.txt`` go.
        split: 1, 2 or 3.
        rawframes: List folders of frames.
        published: Warn if sizes are not the published ones.

    Returns:
        What was written.

    Raises:
        FileNotFoundError: A folder is missing.
        ValueError: A file is not a split, or nothing is on disk.
    """
    read = read_class_splits(splits, split)
    return _write_lists(
        'HMDB51',
        read,
        HMDB51_SIZES if published else {},
        (media, out_dir, split, rawframes),
    )


def write_jhmdb_lists(
    splits: str | os.PathLike,
    media: str | os.PathLike,
    out_dir: str | os.PathLike,
    split: int,
    rawframes: bool = False,
) -> list[ListReport]:
    """List the actions of JHMDB or sub-JHMDB, see :func:`write_hmdb51_lists`.

    Args:
        splits: The folder ``splits`` or ``sub_splits``, by whose name the
            number of videos is checked.
        media: ``ReCompress_Videos``, or ``Rename_Images`` with
            ``rawframes``.
        out_dir: Where the lists go.
        split: 1, 2 or 3.
        rawframes: List folders of frames.
    """
    read = read_class_splits(splits, split)
    expected = JHMDB_SIZES.get(Path(splits).name)
    if expected is not None:
        found = len(read.train) + len(read.test)
        check_size(f'JHMDB {Path(splits).name}', found, (expected,))
    return _write_lists('JHMDB', read, {}, (media, out_dir, split, rawframes))


def _write_lists(
    name: str, read: ClassSplits, sizes: dict, where: tuple
) -> list[ListReport]:
    """Write both lists and the classes."""
    media, out_dir, split, rawframes = where
    write_classes(Path(out_dir) / 'classes.txt', read.classes)
    reports = []
    for subset, entries in (('train', read.train), ('test', read.test)):
        reports.append(
            convert_split(
                name,
                entries,
                sizes.get(subset, (len(entries),)),
                media,
                out_dir,
                f'{subset}_split_{split}',
                rawframes,
                by_path=True,
            )
        )
    return reports

"""Read the annotation of trimmed videos: Kinetics, Moments, HMDB51, J-HMDB.

Mini-Kinetics is published in two ways: as lists ``name frames label``
(AR-Net, OCSampler), and as Kinetics' own CSV files with a list of the 200
classes (FrameExit). The lists of OCSampler are a few videos short.

Moments in Time: ``trainingSet.csv`` and ``validationSet.csv`` have no header;
their first column is ``class/file.mp4``, further ones (label, votes) are not
used. ``moments_categories.txt`` has lines ``name,index``.

HMDB51 and J-HMDB have a file of each class and split. HMDB51:
``testTrainMulti_7030_splits/<class>_test_split<1..3>.txt``. J-HMDB:
``splits/<class>_test_split<1..3>.txt``, and of sub-JHMDB
``sub_splits/<class>_test_split_<1..3>.txt``. Lines are ``video.avi 1``: 1
trains, 2 tests, 0 (HMDB51) does neither.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mmskip.reading import InputError, excerpt, read_csv, read_lines, reads

from .lists import (
    ActionEntry,
    ListReport,
    check_size,
    convert_split,
    refuse_repeated,
    write_classes,
)

# Rows of the CSV files of the release.
KINETICS400_SIZES = dict(train=(246_534,), val=(19_906,))
# The thesis' sizes, and the lines of OCSampler's lists.
MINI_KINETICS_SIZES = dict(train=(121_215, 121_069), val=(9_867, 9_863))
# Names of clips have six digits for a time.
LATEST = 999_999
COLUMNS = ('label', 'youtube_id', 'time_start', 'time_end')
# The sizes that the VA-RED^2 thesis gives (section 4.1).
MOMENTS_SIZES = dict(training=(802_244,), validation=(33_900,))
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


@reads('a CSV file of Kinetics')
def read_kinetics_csv(
    path: str | os.PathLike, classes: Sequence[str] | None = None
) -> tuple[list[str], list[ActionEntry]]:
    """Read a CSV file ``label,youtube_id,time_start,time_end,split,is_cc``.

    A name is ``<youtube id>_<start>_<end>`` with six digits each, as the
    clips are named.

    Args:
        path: The file.
        classes: Class names in the order of their indices; videos of other
            classes are left out, and counted in a warning. Defaults to all,
            in alphabetical order.

    Returns:
        Class names and videos.

    Raises:
        InputError: The file is not such a file, lists a clip twice, or a
            class has no video.
    """
    rows = _read_rows(path)
    labels = [_normalise(row['label']) for _, row in rows]
    if classes is None:
        classes = sorted(set(labels))
    index = {_normalise(name): number for number, name in enumerate(classes)}
    absent = sorted(set(index) - set(labels))
    if absent:
        raise InputError(
            f'{path}: expected videos of all {len(index)} classes, got none '
            f'of {", ".join(map(excerpt, absent[:3]))}; give the class list '
            'of this release'
        )
    others = sorted(label for label in labels if label not in index)
    if others:
        warnings.warn(
            f'{path}: {len(others):,} of {len(labels):,} videos are of '
            f'{len(set(others))} other classes, the first of them '
            f'{excerpt(others[0])}, and left out',
            stacklevel=3,
        )
    numbered = [
        (line, ActionEntry(_clip_name(path, line, row), (index[label],)))
        for (line, row), label in zip(rows, labels, strict=True)
        if label in index
    ]
    return list(classes), refuse_repeated(path, numbered)


@reads('a list "name frames label"')
def read_video_list(
    path: str | os.PathLike, num_classes: int = 200
) -> list[ActionEntry]:
    """Read a list ``name frames label``; frames are counted anew on disk.

    Args:
        path: The list; a name may be a path, of which the last part counts.
        num_classes: Number of classes.

    Raises:
        InputError: A line is not of that form, lists a video anew, or its
            label is not one of ``0..num_classes - 1``.
    """
    numbered = []
    for number, line in read_lines(path):
        name, *columns = line.rsplit(maxsplit=2)
        if len(columns) != 2 or not all(c.isdecimal() for c in columns):
            raise InputError(
                f'{path}: line {number}: expected "name frames label", got '
                f'{excerpt(line)}'
            )
        label = int(columns[1])
        if label >= num_classes:
            raise InputError(
                f'{path}: line {number}: expected a label 0..'
                f'{num_classes - 1}, got {label}; is this another data set?'
            )
        numbered.append((number, ActionEntry(_stem(name), (label,))))
    return refuse_repeated(path, numbered)


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


def _read_rows(path: str | os.PathLike) -> list[tuple[int, dict[str, str]]]:
    """Read rows by the names of their columns, and their line numbers."""
    rows = read_csv(path)
    _, header = next(rows, (1, []))
    if not set(COLUMNS) <= set(header):
        raise InputError(
            f'{path}: expected a CSV file with the columns '
            f'{", ".join(COLUMNS)}, got {excerpt(",".join(header))}; use the '
            "release's file with labels"
        )
    needed = 1 + max(header.index(column) for column in COLUMNS)
    found = []
    for number, row in rows:
        if not needed <= len(row) <= len(header):
            raise InputError(
                f'{path}: line {number}: expected {len(header)} columns, got '
                f'{len(row)}: {excerpt(",".join(row))}'
            )
        # Those behind the ones that are needed may be missing.
        found.append((number, dict(zip(header, row, strict=False))))
    if not found:
        raise InputError(f'{path}: expected rows below the header, got none')
    return found


def _normalise(label: str) -> str:
    """Bring class names with spaces or with underscores into one form."""
    return label.strip().replace('_', ' ')


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in ('.mp4', '.mkv') else path.name


def _clip_name(path: str | os.PathLike, line: int, row: dict[str, str]) -> str:
    """Name of a row's clip."""
    times = [_whole_seconds(row[key]) for key in COLUMNS[2:]]
    if None in times or not times[0] < times[1] <= LATEST:
        raise InputError(
            f'{path}: line {line}: expected whole seconds, the end after the '
            f'start, got {excerpt(row["time_start"])} and '
            f'{excerpt(row["time_end"])}'
        )
    name, label = row['youtube_id'].strip(), row['label'].strip()
    if not name or not label:
        raise InputError(
            f'{path}: line {line}: expected label and youtube_id, got '
            f'{excerpt(label)} and {excerpt(name)}'
        )
    return f'{name}_{times[0]:06d}_{times[1]:06d}'


def _whole_seconds(text: str) -> int | None:
    """Read a time; None if it is no whole number from 0 on."""
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value >= 0 and value.is_integer() else None


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

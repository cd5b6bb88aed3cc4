"""Write the lists that mmaction2 reads, and check their sizes."""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mmskip.reading import InputError, excerpt

from .media import Medium, index_media


class ActionEntry(NamedTuple):
    """A video of a release.

    Attributes:
        name: What the release calls it.
        labels: Indices of its classes, ascending. Empty: it shows none of
            them (background videos of THUMOS'14).
    """

    name: str
    labels: tuple[int, ...]


class ListReport(NamedTuple):
    """The outcome of writing a list: what is in it, and what is missing.

    Attributes:
        path: The list.
        written: Number of videos in it.
        missing: Names of videos that are not on disk.
    """

    path: Path
    written: int
    missing: tuple[str, ...]


def refuse_repeated(
    path: str | os.PathLike,
    numbered: Sequence[tuple[int, ActionEntry]],
    place: str = 'line',
) -> list[ActionEntry]:
    """Return the videos of a file, each of which must be listed once.

    Args:
        path: The file.
        numbered: Numbers of lines, and the videos that they list.
        place: What is numbered.

    Raises:
        InputError: A video is listed twice.
    """
    lines: dict[str, int] = {}
    for number, entry in numbered:
        if entry.name in lines:
            raise InputError(
                f'{path}: {place} {number}: expected every video once, got '
                f'{excerpt(entry.name)}, which {place} {lines[entry.name]} '
                'lists, too; mend the file'
            )
        lines[entry.name] = number
    return [entry for _, entry in numbered]


def write_list(
    path: str | os.PathLike,
    entries: Sequence[ActionEntry],
    media: Mapping[str, Medium],
) -> ListReport:
    """Write a list of the videos that are on disk.

    Lines are ``path label [label ...]`` for ``VideoDataset`` and ``path
    frames label [label ...]`` for ``RawframeDataset``. A frame directory of
    a video without labels would get the label -1 in mmaction2, which is the
    last class; ``mmskip.ActionFrameDataset`` reads it as it is meant.

    Args:
        path: The list; its folder is made if need be.
        entries: Videos of the release.
        media: Videos on disk, see :func:`index_media`.

    Returns:
        What was written and what was missing.

    Raises:
        ValueError: None of the videos is on disk, or one occurs twice.
    """
    path = Path(path)
    lines, missing = [], []
    seen: set[str] = set()
    for entry in entries:
        if entry.name in seen:
            raise ValueError(
                f'{path.name}: expected every video once, got {entry.name} '
                'twice; mend the annotation file'
            )
        seen.add(entry.name)
        medium = media.get(entry.name)
        if medium is None:
            missing.append(entry.name)
            continue
        columns = [medium.path]
        if medium.frames is not None:
            columns.append(str(medium.frames))
        lines.append(' '.join([*columns, *map(str, entry.labels)]))
    if not lines:
        example = f', e.g. {missing[0]}' if missing else ''
        raise ValueError(
            f'{path.name}: expected videos on disk, found none of '
            f'{len(missing)} annotated{example}; give the folder that holds '
            'this split'
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    return ListReport(path, len(lines), tuple(missing))


def write_classes(path: str | os.PathLike, classes: Sequence[str]) -> None:
    """Write class names, one a line, in the order of their indices."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(classes) + '\n', encoding='utf-8')


def check_size(what: str, found: int, published: Sequence[int]) -> bool:
    """Warn if a split of a release has not the published size.

    Args:
        what: Name of the data set and the split.
        found: Number of videos annotated.
        published: Sizes that sources give, the paper's first. Sources often
            differ by a few videos.

    Returns:
        Whether the size is one of those published.
    """
    if found in published:
        return True
    sizes = ' or '.join(f'{size:,}' for size in published)
    warnings.warn(
        f'{what}: expected {sizes} videos as published, the annotation has '
        f'{found:,}; results will not compare with published ones',
        stacklevel=2,
    )
    return False


def convert_split(
    name: str,
    entries: Sequence[ActionEntry],
    published: Sequence[int],
    media_root: str | os.PathLike,
    out_dir: str | os.PathLike,
    split: str,
    rawframes: bool = False,
    by_path: bool = False,
) -> ListReport:
    """Check the size of a split, and list what of it is on disk.

    Args:
        name: Name of the data set, for the warning.
        entries: Videos of the split.
        published: Its published sizes, see :func:`check_size`.
        media_root: Folder of the videos, or of the folders of frames.
        out_dir: Folder of the list.
        split: Name of the split, for the list's name.
        rawframes: List folders of frames instead of video files.
        by_path: Find videos by their paths, see :func:`index_media`.

    Returns:
        What was written, and what was missing.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: Nothing of the split is on disk.
    """
    check_size(f'{name} {split}', len(entries), published)
    kind = 'rawframes' if rawframes else 'videos'
    path = Path(out_dir) / f'{split}_list_{kind}.txt'
    media = index_media(media_root, rawframes, by_path)
    return write_list(path, entries, media)

"""Find the videos of a data set, and write the lists that mmaction2 reads.

A video is a file or a folder of frames.
"""

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mmskip.reading import InputError, excerpt

VIDEO_SUFFIXES = ('.mp4', '.mkv', '.webm', '.avi', '.mov', '.m4v')
FRAME_SUFFIXES = ('.jpg', '.jpeg', '.png')
# Kinetics: <youtube id>_<start>_<end>, seconds of six digits.
CLIP = re.compile(r'^(?P<id>.+)_\d{6}_\d{6}$')


class Medium(NamedTuple):
    """A video on disk.

    Attributes:
        path: Below the folder that was searched, with forward slashes.
        frames: Number of frames of a folder of frames; None for a file.
    """

    path: str
    frames: int | None


def index_media(
    root: str | os.PathLike, rawframes: bool = False, by_path: bool = False
) -> dict[str, Medium]:
    """Find videos in a folder and the folders below it, also behind links.

    Packs of files differ in how they name a video: with or without ``v_``
    before a YouTube id, with or without the times of a clip after it. Each
    is found under all of these names; the name on disk wins.

    Args:
        root: The folder.
        rawframes: Look for folders of frames instead of video files.
        by_path: Name videos by their paths below the folder, without the
            suffix, and by nothing else: for data sets in which a file name
            may occur in several folders.

    Returns:
        Videos by name.

    Raises:
        FileNotFoundError: There is no such folder.
        InputError: Nothing was found, a path contains white space, or the
            frames of a folder are not numbered from 1 without gaps.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(
            f'{root}: expected the folder of the videos, found none'
        )
    found = _find_frames(root) if rawframes else _find_files(root)
    if not found:
        kind = 'folders of frames' if rawframes else 'video files'
        other = 'without' if rawframes else 'with'
        raise InputError(
            f'{root}: expected {kind}, found none; give another folder, or '
            f'run {other} --rawframes'
        )
    for _, medium in found:
        if re.search(r'\s', medium.path):
            raise InputError(
                f'{root / medium.path}: expected a path without white space, '
                "which separates the columns of mmaction2's lists; rename "
                'the file or its folder (class folders: "_" for " ")'
            )
    if by_path:
        return _by_name(
            root, [(_path_name(medium), medium) for _, medium in found]
        )
    exact = _by_name(root, found)
    aliases: dict[str, Medium] = {}
    for name, medium in exact.items():
        for alias in _aliases(name):
            aliases.setdefault(alias, medium)
    return {**aliases, **exact}


def _by_name(root: Path, found: list[tuple[str, Medium]]) -> dict[str, Medium]:
    """Keep the first video of every name, and warn of the others."""
    exact: dict[str, Medium] = {}
    twice = []
    for name, medium in found:
        if name in exact:
            twice.append((exact[name].path, medium.path))
        exact.setdefault(name, medium)
    if twice:
        warnings.warn(
            f'{root}: {len(twice)} videos lie there under a name that '
            f'another has, too; {twice[0][0]} is used and {twice[0][1]} is '
            'not, and so on',
            stacklevel=3,
        )
    return exact


def _path_name(medium: Medium) -> str:
    """Return the path of a folder of frames, or a file without suffix."""
    if medium.frames is not None:
        return medium.path
    return medium.path.rpartition('.')[0]


def _aliases(name: str) -> set[str]:
    """Return the other names under which a release may know a video."""
    clip = CLIP.match(name)
    names = {name, clip['id'] if clip else name}
    return names | {n.removeprefix('v_') for n in names}


def _find_files(root: Path) -> list[tuple[str, Medium]]:
    return [
        (path.stem, Medium(path.relative_to(root).as_posix(), None))
        for folder, names in _walk(root)
        for path in (folder / name for name in names)
        if path.suffix.lower() in VIDEO_SUFFIXES
    ]


def _find_frames(root: Path) -> list[tuple[str, Medium]]:
    found = []
    for path, names in _walk(root):
        frames = [n for n in names if n.lower().endswith(FRAME_SUFFIXES)]
        if frames:
            count = _count_frames(path, frames)
            relative = path.relative_to(root).as_posix()
            found.append((path.name, Medium(relative, count)))
    return found


def _walk(root: Path) -> list[tuple[Path, list[str]]]:
    """Return the folders below one and the names of their files, in order.

    Links are followed, after all that is not behind one, and no folder is
    entered twice: links may lead in circles. Links to folders that were read
    already, and folders that cannot be read, are counted in a warning.
    """
    found, seen = [], set()
    again, closed = [], []
    folders, links = [root], []
    while folders or links:
        folder = folders.pop() if folders else links.pop()
        try:
            status = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda e: e.name)
        except OSError:
            closed.append(folder)
            continue
        if (status.st_dev, status.st_ino) in seen:
            again.append(folder)
            continue
        seen.add((status.st_dev, status.st_ino))
        names = [entry.name for entry in entries if entry.is_file()]
        found.append((folder, names))
        for entry in entries:
            if entry.is_dir():
                (links if entry.is_symlink() else folders).append(
                    folder / entry.name
                )
    for paths, why in (
        (again, 'are links to folders that are read already'),
        (closed, 'cannot be read'),
    ):
        if paths:
            warnings.warn(
                f'{root}: {len(paths)} folders {why} and passed over, the '
                f'first of them {min(paths)}',
                stacklevel=4,
            )
    return sorted(found)


def _count_frames(folder: Path, files: list[str]) -> int:
    """Count frames; they must be those that mmaction2 will ask for."""
    numbers = [re.search(r'(\d+)\.\w+$', name) for name in files]
    if None in numbers or {int(n[1]) for n in numbers} != set(
        range(1, len(files) + 1)
    ):
        raise InputError(
            f'{folder}: expected {len(files)} frames numbered from 1 without '
            f'gaps, got {min(files)} to {max(files)}; extract them again'
        )
    return len(files)


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

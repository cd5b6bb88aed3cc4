"""What every converter does with a split of a release."""

import os
from collections.abc import Sequence
from pathlib import Path

from .lists import ActionEntry, ListReport, check_size, write_list
from .media import index_media


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

"""Write a data set to a folder completely, or not at all."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path


def write_once(
    root: str | os.PathLike,
    marker: str,
    arguments: dict,
    write: Callable[[Path], None],
) -> Path:
    """Write a data set, unless this very one is there already.

    It is written to ``{root}.partial`` and moved when it is complete.

    Args:
        root: Folder of the data set; made if need be.
        marker: Name of a JSON file in it that keeps the arguments.
        arguments: What it is made with, of JSON's types.
        write: Writes all else into the folder that it is given.

    Returns:
        ``root``, absolute.

    Raises:
        FileExistsError: ``root`` holds something else.
    """
    root = Path(root).absolute()
    if _is_complete(root, marker, arguments):
        return root
    partial = _start_over(root, marker)
    (partial / marker).write_text(json.dumps(arguments, indent=2) + '\n')
    write(partial)
    if root.exists():
        root.rmdir()
    return partial.rename(root)


def _is_complete(root: Path, marker: str, arguments: dict) -> bool:
    """Whether a folder holds this very data set; False if it is empty."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    if not (root / marker).is_file():
        raise FileExistsError(
            f'{root}: expected an empty folder or one with {marker}, got '
            'something else; remove it or choose another'
        )
    found = json.loads((root / marker).read_text())
    if found != arguments:
        differing = ', '.join(
            f'{key}={found.get(key)!r} instead of {value!r}'
            for key, value in arguments.items()
            if found.get(key) != value
        )
        raise FileExistsError(
            f'{root}: holds a toy data set made with {differing}; remove it '
            'or choose another folder'
        )
    return True


def _start_over(root: Path, marker: str) -> Path:
    """Make an empty folder beside ``root``; remove what was interrupted."""
    partial = root.with_name(f'{root.name}.partial')
    if partial.exists():
        if not (partial / marker).is_file():
            raise FileExistsError(
                f'{partial}: expected what an interrupted run left, got '
                'something else; remove it'
            )
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    return partial

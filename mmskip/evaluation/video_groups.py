"""Groups of videos, to report figures of each, such as their speed."""

from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path

from mmskip.runtime import InputError
from mmskip.runtime.reading import read_json


def read_groups(path: str | PathLike) -> dict[str, str]:
    """Read which group each video belongs to.

    Args:
        path: JSON file with an object, group by video: the name of its file
            without folder and suffix.

    Raises:
        InputError: The file is something else.
    """
    groups = read_json(path, 'a JSON file of groups')
    if not isinstance(groups, dict) or not all(
        isinstance(group, str) for group in groups.values()
    ):
        raise InputError(
            f'{path}: expected an object {{"video": "group", ...}}, got '
            'something else'
        )
    return groups


def group_of(video: str | None, groups: Mapping[str, str]) -> str:
    """The group of a video.

    Args:
        video: Its name or its file.
        groups: See :func:`read_groups`.

    Raises:
        ValueError: It has none.
    """
    name = Path(video or '').stem
    if name not in groups:
        raise ValueError(
            f'expected the group of every video, got none of {video}; is '
            'the list of groups that of this data set, and "filename" in '
            'meta_keys of PackActionInputs?'
        )
    return groups[name]


def by_group(
    results: Sequence[Mapping],
) -> Iterator[tuple[str, list[Mapping]]]:
    """Results with the same ``group``, in alphabetical order.

    Results without one are left out.
    """
    names = sorted({r['group'] for r in results if r.get('group')})
    for name in names:
        yield name, [r for r in results if r.get('group') == name]

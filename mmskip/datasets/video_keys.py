"""Which video, or which person's track, a sample belongs to."""

import os.path as osp
import re
from collections.abc import Mapping, Sequence
from typing import Any

FOLDER = 'img_path'
#: Where mmaction2 names the video of a sample.
OTHER_KEYS = ('frame_dir', 'filename')


def find_video(info: Mapping, video_key: str | Sequence[str]) -> Any:
    """Tell the video of a sample.

    Args:
        info: Annotation or meta information of the sample.
        video_key: Key of the video, or several keys that tell it together:
            ``('img_path', 'raw_ann_info.track_id')`` is each person of each
            video. Dots lead into dicts; ``img_path`` stands for the folder
            of the image.

    Returns:
        The value, a tuple of several; of a sample that has none of these
        keys, its ``frame_dir`` or ``filename``. None if the sample does not
        tell, or has only some of several keys: it is an image of its own.
    """
    values = tuple(_video_part(info, key) for key in all_keys(video_key))
    if None not in values:
        return values if len(values) > 1 else values[0]
    if any(value is not None for value in values):
        return None
    found = (look_up(info, key) for key in OTHER_KEYS)
    return next((value for value in found if value is not None), None)


def find_position(
    info: Mapping, video_key: str | Sequence[str], frame_key: str
) -> Any:
    """Tell where in its video a sample is.

    Args:
        info: Annotation or meta information of the sample.
        video_key: See :func:`find_video`.
        frame_key: Key of the position.

    Returns:
        The value; without one, the path of the image if its folder is the
        video. None if the sample does not tell.
    """
    value = look_up(info, frame_key)
    if value is None and FOLDER in all_keys(video_key):
        value = look_up(info, FOLDER)
    return _first(value)


def natural_key(value: Any) -> list[tuple[int, Any]]:
    """What to sort by, so that numbers in texts compare as numbers.

    Args:
        value: A number, or a text such as ``'2'`` or ``'img10.jpg'``.
    """
    if not isinstance(value, str):
        return [(0, value)]
    return [
        (0, int(part)) if part.isdecimal() else (1, part.lower())
        for part in re.split(r'(\d+)', value)
        if part
    ]


def look_up(info: Mapping, key: str) -> Any:
    """A value of a sample; dots lead into dicts, None is missing."""
    value: Any = info
    for part in key.split('.'):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def all_keys(video_key: str | Sequence[str]) -> tuple[str, ...]:
    """One key or several, as several."""
    return (video_key,) if isinstance(video_key, str) else tuple(video_key)


def describe_keys(video_key: str | Sequence[str]) -> str:
    """The keys as a message names them."""
    return ' and '.join(map(repr, all_keys(video_key)))


def _video_part(info: Mapping, key: str) -> Any:
    """A value that tells a video: of an image's path only the folder."""
    value = look_up(info, key)
    if key != FOLDER:
        return value
    value = _first(value)
    return osp.dirname(value) or None if isinstance(value, str) else None


def _first(value: Any) -> Any:
    """The first of several values, such as paths of a sample's images."""
    return value[0] if isinstance(value, (list, tuple)) and value else value

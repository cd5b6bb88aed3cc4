"""Which video, or which person's track, a sample belongs to."""

import os.path as osp
from collections.abc import Mapping, Sequence
from typing import Any

FOLDER = 'img_path'


def find_video(
    info: Mapping, video_key: str | Sequence[str], more: Sequence[str] = ()
) -> Any:
    """Tell the video of a sample.

    Args:
        info: Annotation or meta information of the sample.
        video_key: Key of the video, or several keys that tell it together:
            ``('img_path', 'raw_ann_info.track_id')`` is each person of each
            video. Dots lead into dicts; ``img_path`` stands for the folder
            of the image.
        more: Keys to look for where the sample has none of these, before the
            folder of its image.

    Returns:
        The value, a tuple of several; None if the sample does not tell, or
        has only a part of several keys.
    """
    keys = (video_key,) if isinstance(video_key, str) else tuple(video_key)
    values = tuple(_video_part(info, key) for key in keys)
    if None not in values:
        return values if len(values) > 1 else values[0]
    if any(value is not None for value in values):
        return None
    found = (_video_part(info, key) for key in (*more, FOLDER))
    return next((value for value in found if value is not None), None)


def look_up(info: Mapping, key: str) -> Any:
    """A value of a sample; dots lead into dicts, None is missing."""
    value: Any = info
    for part in key.split('.'):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _video_part(info: Mapping, key: str) -> Any:
    """A value that tells a video: of an image's path only the folder."""
    value = look_up(info, key)
    if key != FOLDER:
        return value
    if isinstance(value, (list, tuple)) and value:
        value = value[0]
    return osp.dirname(value) or None if isinstance(value, str) else None


def describe_keys(video_key: str | Sequence[str]) -> str:
    """The keys as a message names them."""
    keys = (video_key,) if isinstance(video_key, str) else tuple(video_key)
    return ' and '.join(map(repr, keys))

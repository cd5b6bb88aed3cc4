"""Read the annotation file of ActivityNet (release 1.3, or alike).

``database[youtube id] = {duration, subset, resolution, url, annotations}``,
an annotation being ``{label, segment: [start, end]}`` in seconds.
"""

import os
import warnings
from collections.abc import Mapping
from typing import Any

from mmskip.runtime import InputError
from mmskip.runtime.reading import excerpt, read_json, reads

from .lists import ActionEntry

# The thesis' sizes; what the lists of AR-Net and SoF-Net's code have, and
# those of OCSampler.
ACTIVITYNET_SIZES = dict(
    training=(10_024, 10_014, 10_023), validation=(4_926, 4_921, 4_925)
)
SUBSETS = tuple(ACTIVITYNET_SIZES)
ALL_SUBSETS = (*SUBSETS, 'testing')
EXPECTED = "ActivityNet's annotation file"


@reads(EXPECTED)
def read_activitynet(
    path: str | os.PathLike,
) -> tuple[list[str], dict[str, list[ActionEntry]]]:
    """Read classes, and the labels of every video with annotations.

    Classes are the leaves of the taxonomy in alphabetical order, as in the
    lists in use; labels of a video are counted once however many segments
    they have. The testing subset has no annotations. A label that is not a
    leaf becomes a class, with a warning.

    Args:
        path: ``activity_net.v1-3.min.json``.

    Returns:
        Class names, and the videos of ``training`` and ``validation``.

    Raises:
        InputError: The file is not an annotation of ActivityNet.
    """
    release = _load(path)
    videos = release['database']
    labels = {
        annotation['label']
        for video in videos.values()
        if video['subset'] in SUBSETS
        for annotation in video['annotations']
    }
    parents = {node['parentName'] for node in release.get('taxonomy', ())}
    leaves = {node['nodeName'] for node in release.get('taxonomy', ())}
    classes = sorted((leaves - parents) | labels)
    more = sorted(labels - (leaves - parents)) if leaves else []
    if more:
        warnings.warn(
            f'{path}: {len(more)} labels, the first of them '
            f'{excerpt(more[0])}, are not leaves of its taxonomy; they are '
            f'classes, too, of which there are {len(classes)}',
            stacklevel=3,
        )
    index = {name: number for number, name in enumerate(classes)}
    entries: dict[str, list[ActionEntry]] = {name: [] for name in SUBSETS}
    for name, video in videos.items():
        found = {index[a['label']] for a in video['annotations']}
        if video['subset'] in SUBSETS and found:
            entry = ActionEntry(name, tuple(sorted(found)))
            entries[video['subset']].append(entry)
    return classes, entries


@reads(EXPECTED)
def read_segments(
    path: str | os.PathLike,
) -> dict[str, list[tuple[float, float]]]:
    """Read when the annotated actions of every video happen.

    Segments that end before they begin, or begin before the video, are kept
    and counted in a warning.

    Returns:
        ``(start, end)`` in seconds by video id without ``v_``.

    Raises:
        InputError: The file is not an annotation of ActivityNet.
    """
    segments = {
        name: [tuple(map(float, a['segment'])) for a in video['annotations']]
        for name, video in _load(path)['database'].items()
    }
    odd = [
        (name, start, end)
        for name, found in segments.items()
        for start, end in found
        if not 0 <= start <= end
    ]
    if odd:
        name, start, end = odd[0]
        warnings.warn(
            f'{path}: {len(odd)} segments end before they begin or begin '
            f'before the video, the first of them [{start}, {end}] of {name}',
            stacklevel=3,
        )
    return segments


def _load(path: str | os.PathLike) -> dict:
    """Load the file and check what is used of it."""
    release = read_json(path, EXPECTED)
    if not isinstance(release, dict) or not isinstance(
        release.get('database'), dict
    ):
        raise InputError(
            f"{path}: expected the key 'database' of {EXPECTED}; this is "
            'another file'
        )
    for name, video in release['database'].items():
        if not _is_video(video):
            raise InputError(
                f'{path}: video {excerpt(name)}: expected subset '
                f'({", ".join(ALL_SUBSETS)}) and annotations with label and '
                f'segment [start, end], got {excerpt(video)}'
            )
    return release


def _is_video(video: Any) -> bool:
    """Whether an entry of the database has what is used of it."""
    return (
        isinstance(video, Mapping)
        and video.get('subset') in ALL_SUBSETS
        and isinstance(video.get('annotations'), list)
        and all(map(_is_annotation, video['annotations']))
    )


def _is_annotation(annotation: Any) -> bool:
    if not isinstance(annotation, Mapping):
        return False
    segment = annotation.get('segment')
    return (
        isinstance(annotation.get('label'), str)
        and isinstance(segment, list)
        and len(segment) == 2
        and all(type(value) in (int, float) for value in segment)
    )

"""Read the annotation of untrimmed videos: ActivityNet and THUMOS'14.

ActivityNet: ``database[youtube id] = {duration, subset, resolution, url,
annotations}``, an annotation being ``{label, segment: [start, end]}`` in
seconds.

THUMOS'14: ``validation_set.mat`` holds the struct array ``validation_videos``,
``test_set_meta.mat`` the struct array ``test_videos``.
"""

import os
import warnings
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from mmskip.datasets.mat_files import MatReader, mat_reader
from mmskip.reading import InputError, excerpt, read_json, read_lines, reads

from .lists import ActionEntry, refuse_repeated

# The thesis' sizes; what the lists of AR-Net and SoF-Net's code have, and
# those of OCSampler.
ACTIVITYNET_SIZES = dict(
    training=(10_024, 10_014, 10_023), validation=(4_926, 4_921, 4_925)
)
SUBSETS = tuple(ACTIVITYNET_SIZES)
ALL_SUBSETS = (*SUBSETS, 'testing')
EXPECTED = "ActivityNet's annotation file"
THUMOS14_SIZES = dict(validation=(1_010,), test=(1_574,))
NUM_CLASSES = 101
NAME = 'video_name'
FIELD = 'primary_action_index'


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


@reads("THUMOS'14's validation_set.mat or test_set_meta.mat")
def read_thumos14(
    path: str | os.PathLike, reader: MatReader | None = None
) -> list[ActionEntry]:
    """Read the videos of a split with their primary action.

    Indices count from 1 in the file and from 0 here. Background videos, and
    videos whose index is empty or 0, get no label: they are negatives of
    every class.

    Args:
        path: ``validation_set.mat`` or ``test_set_meta.mat``.
        reader: Reads the file, if one is running already.

    Raises:
        InputError: The file is not one of the two, lists a video twice, or
            an index is not one of 1..101.
    """
    with mat_reader(reader) as reader:
        rows = reader.rows(path, (NAME, FIELD))
    if not rows:
        raise InputError(f'{path}: expected videos, got none')
    numbered = []
    for number, row in enumerate(rows, 1):
        place = f'{path}: element {number}'
        if not isinstance(row[NAME], str) or not row[NAME].strip():
            raise InputError(
                f'{place}: expected a text as {NAME}, got '
                f'{excerpt(row[NAME])}; extract it again'
            )
        name = PurePosixPath(row[NAME].strip()).stem
        place = f'{place} ({excerpt(name)})'
        numbered.append((number, ActionEntry(name, _labels(place, row))))
    return refuse_repeated(path, numbered, 'element')


@reads('class_index.txt')
def read_class_index(path: str | os.PathLike) -> list[str]:
    """Read ``class_index.txt``, lines ``1 ApplyEyeMakeup``.

    Raises:
        InputError: It does not number 101 different classes from 1.
    """
    pairs = [line.split() for _, line in read_lines(path)]
    numbers = [str(number) for number in range(1, NUM_CLASSES + 1)]
    names = [pair[-1] for pair in pairs]
    if [pair[0] for pair in pairs if len(pair) == 2] != numbers or len(
        set(names)
    ) != len(pairs):
        raise InputError(
            f'{path}: expected {NUM_CLASSES} lines "number name", numbered '
            f'from 1, got {len(pairs)} lines; use the list of all classes, '
            'not that of the 20 with temporal annotation'
        )
    return names


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
    """Tell whether an entry of the database has what is used of it."""
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


def _labels(place: str, row: dict[str, Any]) -> tuple[int, ...]:
    """Return the primary action of a video, from 0; none is empty."""
    if str(row.get('background_video')).upper() == 'YES':
        return ()
    index = row[FIELD]
    if index in ([], [0]):
        return ()
    label = index[0] if isinstance(index, list) else index
    if label not in range(1, NUM_CLASSES + 1):
        raise InputError(
            f'{place}: expected {FIELD} 1..{NUM_CLASSES}, got {excerpt(label)}'
        )
    return (int(label) - 1,)

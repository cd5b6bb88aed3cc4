"""Read the annotation file of ActivityNet (release 1.3, or alike).

``database[youtube id] = {duration, subset, resolution, url, annotations}``,
an annotation being ``{label, segment: [start, end]}`` in seconds.
"""

import json
import os

from .lists import ActionEntry

# The thesis' sizes; what the lists of AR-Net and SoF-Net's code have, and
# those of OCSampler.
ACTIVITYNET_SIZES = dict(
    training=(10_024, 10_014, 10_023), validation=(4_926, 4_921, 4_925)
)
SUBSETS = tuple(ACTIVITYNET_SIZES)


def read_activitynet(
    path: str | os.PathLike,
) -> tuple[list[str], dict[str, list[ActionEntry]]]:
    """Read classes, and the labels of every video with annotations.

    Classes are the leaves of the taxonomy in alphabetical order, as in the
    lists in use; labels of a video are counted once however many segments
    they have. The testing subset has no annotations.

    Args:
        path: ``activity_net.v1-3.min.json``.

    Returns:
        Class names, and the videos of ``training`` and ``validation``.

    Raises:
        ValueError: The file is not an annotation of ActivityNet.
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
    index = {name: number for number, name in enumerate(classes)}
    entries: dict[str, list[ActionEntry]] = {name: [] for name in SUBSETS}
    for name, video in videos.items():
        found = {index[a['label']] for a in video['annotations']}
        if video['subset'] in SUBSETS and found:
            entry = ActionEntry(name, tuple(sorted(found)))
            entries[video['subset']].append(entry)
    return classes, entries


def read_segments(
    path: str | os.PathLike,
) -> dict[str, list[tuple[float, float]]]:
    """Read when the annotated actions of every video happen.

    Returns:
        ``(start, end)`` in seconds by video id without ``v_``.

    Raises:
        ValueError: The file is not an annotation of ActivityNet.
    """
    return {
        name: [tuple(map(float, a['segment'])) for a in video['annotations']]
        for name, video in _load(path)['database'].items()
    }


def _load(path: str | os.PathLike) -> dict:
    """Load the file and check what is used of it."""
    try:
        with open(path, encoding='utf-8') as file:
            release = json.load(file)
    except ValueError as error:
        raise ValueError(
            f'{path}: expected a JSON file, got one that cannot be parsed '
            f'({error}); download it again'
        ) from error
    if not isinstance(release, dict) or not isinstance(
        release.get('database'), dict
    ):
        raise ValueError(
            f"{path}: expected the key 'database' of ActivityNet's "
            'annotation file; this is another file'
        )
    for name, video in release['database'].items():
        lacking = {'subset', 'annotations'} - set(video)
        wrong = [
            a
            for a in video.get('annotations', ())
            if not isinstance(a.get('label'), str)
            or len(a.get('segment', ())) != 2
        ]
        if lacking or wrong:
            raise ValueError(
                f'{path}: video {name}: expected subset and annotations with '
                f'label and segment [start, end], got {wrong or video}'
            )
    return release

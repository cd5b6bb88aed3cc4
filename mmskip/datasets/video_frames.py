"""Videos in a dataset of frames, and whether samples come in their order."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

from mmskip.runtime import InputError

from .video_keys import all_keys, find_position, find_video, natural_key


class FrameDataset(Protocol):
    """What is needed of a dataset: every mmengine dataset has it."""

    def get_data_info(self, idx: int) -> dict:
        """Return the annotation of a sample without loading its image."""

    def __len__(self) -> int:
        """Return the number of samples."""


class Alone(NamedTuple):
    """Identity of a sample that does not tell its video.

    Attributes:
        index: Of the sample in its dataset.
    """

    index: int


class Jump(NamedTuple):
    """Where a loader leaves the order of the videos.

    Attributes:
        video: Of the sample that was expected.
        frame: Its number in the video, from 0.
        found: Video and number of the sample that comes instead; None if no
            more comes.
    """

    video: Any
    frame: int
    found: tuple[Any, int] | None


def group_frames(
    dataset: FrameDataset,
    video_key: str | Sequence[str] = 'video_id',
    frame_key: str = 'frame_id',
) -> dict[Any, list[int]]:
    """Collect the samples of every video.

    Args:
        dataset: The dataset.
        video_key: Key of a sample's video, or several keys that tell it
            together, see :func:`mmskip.datasets.video_keys.find_video`.
        frame_key: Key of a frame's position in its video. Texts are put in
            natural order, ``'2'`` before ``'10'``. If a sample of a video
            has none, that video keeps the order of the dataset, but where
            the folder of an image is its video, names of files are
            positions.

    Returns:
        Sample indices by video, frames in order; videos in the order in
        which the dataset first shows them. A sample that does not tell its
        video is one of its own, named :class:`Alone`.

    Raises:
        InputError: A video has two samples at one position.
    """
    frames: dict[Any, list[tuple[Any, int]]] = {}
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        video = find_video(info, video_key)
        if video is None:
            video = Alone(index)
        position = find_position(info, video_key, frame_key)
        frames.setdefault(video, []).append((position, index))
    return {
        video: _order(video, members, video_key, frame_key)
        for video, members in frames.items()
    }


def find_jump(
    indices: Iterable[int], videos: Mapping[Any, Sequence[int]]
) -> Jump | None:
    """Find where samples are not whole videos with their frames in order.

    Args:
        indices: Samples in the order of a loader.
        videos: See :func:`group_frames`.

    Returns:
        The first such place; None if there is none.
    """
    places = {
        index: (video, frame)
        for video, members in videos.items()
        for frame, index in enumerate(members)
    }
    last, frame = None, 0
    for index in indices:
        found = places[index]
        if last is not None and frame < len(videos[last]):
            if found != (last, frame):
                return Jump(last, frame, found)
        elif found[1] or found[0] == last:
            return Jump(found[0], 0, found)
        last, frame = found[0], found[1] + 1
    if last is not None and frame < len(videos[last]):
        return Jump(last, frame, None)
    return None


def _order(
    video: Any,
    members: list[tuple[Any, int]],
    video_key: str | Sequence[str],
    frame_key: str,
) -> list[int]:
    """Sort ``(position, index)`` of one video and return the indices."""
    if any(position is None for position, _ in members):
        return [index for _, index in members]
    members = sorted(members, key=lambda m: (natural_key(m[0]), m[1]))
    for (position, index), (following, other) in pairwise(members):
        if position == following:
            persons = [*all_keys(video_key), 'track_id']
            raise InputError(
                f'expected each frame of video {video!r} once, got '
                f'{frame_key}={position} in the samples {index} and {other}; '
                'if a sample is one person of a frame, let video_key tell '
                f'persons apart too: video_key={persons}; give videos from '
                'different datasets different ids, and do not repeat a '
                'dataset in val and test'
            )
    return [index for _, index in members]

"""Videos in a data set of frames, in order."""

import os.path as osp
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from mmskip.reading import InputError
from mmskip.registry import DATA_SAMPLERS

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
    """Return a key to sort by, in which numbers compare as numbers.

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
    """Look up a value of a sample; dots lead into dicts, None is missing."""
    value: Any = info
    for part in key.split('.'):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def all_keys(video_key: str | Sequence[str]) -> tuple[str, ...]:
    """Return one key or several as a tuple."""
    return (video_key,) if isinstance(video_key, str) else tuple(video_key)


def describe_keys(video_key: str | Sequence[str]) -> str:
    """Return the keys as a message names them."""
    return ' and '.join(map(repr, all_keys(video_key)))


class FrameDataset(Protocol):
    """A dataset as far as it is needed here: every mmengine dataset has it."""

    def get_data_info(self, idx: int) -> dict:
        """Return the annotation of a sample without loading its image."""

    def __len__(self) -> int:
        """Return the number of samples."""


class Alone(NamedTuple):
    """Identity of a sample that does not tell its video.

    Attributes:
        index: Index of the sample in its dataset.
    """

    index: int


class Jump(NamedTuple):
    """A place where a loader leaves the order of the videos.

    Attributes:
        video: Video of the sample that was expected.
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
            together, see :func:`mmskip.datasets.videos.find_video`.
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


@DATA_SAMPLERS.register_module()
class VideoOrderSampler(Sampler[int]):
    """Whole videos per rank, frames in order, nothing padded or repeated.

    A network that remembers the last frame needs the next one of the same
    video. Videos go to the ranks longest first, each to the rank with the
    fewest frames so far; a rank then sees its videos in the order of the
    dataset. With one process this is the order of
    ``DefaultSampler(shuffle=False)`` for any dataset stored video by video.

    Ranks get different numbers of frames, and none at all if there are fewer
    videos than ranks. That is fine in val and test loops: mmengine collects
    what there is. It is not in training, where all ranks step together.

    A sample that does not tell its video is an image of its own. For frames
    in folders, one for each video, set ``video_key='img_path'``. Where a
    sample is one of several persons of a frame, let the key tell persons
    apart: each track is then a video of its own.

    Args:
        dataset: A dataset with ``get_data_info``; mmengine passes it.
        video_key: Key of a sample's video, or several keys, see
            ``mmskip.VideoHook``; see
            :func:`mmskip.datasets.videos.find_video`. Defaults to
            'video_id'.
        frame_key: Key of a frame's position in its video, see
            :func:`mmskip.datasets.videos.group_frames`. Defaults to
            'frame_id'.
        shuffle: Here so that the sampler can replace a ``DefaultSampler`` in
            an inherited config; must be False. Defaults to False.
        round_up: Likewise; it has no effect. Defaults to False.
        seed: mmengine passes it; it has no effect. Defaults to None.

    Attributes:
        videos: Sample indices of the whole dataset by video.

    Raises:
        TypeError: The dataset has no ``get_data_info``.
        ValueError: ``shuffle`` is set, or a video contains a frame twice.
    """

    def __init__(
        self,
        dataset: FrameDataset,
        video_key: str | Sequence[str] = 'video_id',
        frame_key: str = 'frame_id',
        shuffle: bool = False,
        round_up: bool = False,
        seed: int | None = None,
    ) -> None:
        del round_up, seed
        if shuffle:
            raise ValueError(
                'expected shuffle=False, got True; VideoOrderSampler is for '
                'val and test, use DefaultSampler for training'
            )
        if not hasattr(dataset, 'get_data_info'):
            raise TypeError(
                'expected a dataset with the method get_data_info(idx), as '
                f'every mmengine dataset has, got {type(dataset).__name__}'
            )
        self.rank, self.world_size = get_dist_info()
        self.video_key = video_key
        self.videos = group_frames(dataset, video_key, frame_key)
        idle = self.world_size - len(self.videos)
        if idle > 0 and self.rank == 0:
            warnings.warn(
                f'{self.world_size} ranks share {len(self.videos)} videos, so '
                f'{idle} of them have nothing to do',
                stacklevel=2,
            )
        self.indices = [
            index
            for video in share_videos(self.videos, self.world_size)[self.rank]
            for index in self.videos[video]
        ]

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        """Return the number of samples of this rank."""
        return len(self.indices)


def share_videos(
    videos: dict[Any, list[int]], world_size: int
) -> list[list[Any]]:
    """Share videos among ranks so that the numbers of frames are close.

    Args:
        videos: Sample indices by video.
        world_size: Number of ranks.

    Returns:
        For every rank its videos, in the order of ``videos``.
    """
    load = [0] * world_size
    rank_of = {}
    for video in sorted(videos, key=lambda v: len(videos[v]), reverse=True):
        rank = load.index(min(load))
        rank_of[video] = rank
        load[rank] += len(videos[video])
    return [
        [video for video in videos if rank_of[video] == rank]
        for rank in range(world_size)
    ]


def _video_part(info: Mapping, key: str) -> Any:
    """Return what tells a video: of an image's path only the folder."""
    value = look_up(info, key)
    if key != FOLDER:
        return value
    value = _first(value)
    return osp.dirname(value) or None if isinstance(value, str) else None


def _first(value: Any) -> Any:
    """Return the first of several values, such as paths of images."""
    return value[0] if isinstance(value, (list, tuple)) and value else value


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

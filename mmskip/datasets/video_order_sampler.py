"""A sampler that gives every rank whole videos, frames in order."""

import warnings
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol

from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from mmskip.registry import DATA_SAMPLERS

from .video_keys import describe_keys, find_video, look_up


class VideoDataset(Protocol):
    """What the sampler needs of a dataset: every mmengine dataset has it."""

    def get_data_info(self, idx: int) -> dict:
        """Return the annotation of a sample without loading its image."""

    def __len__(self) -> int:
        """Return the number of samples."""


@DATA_SAMPLERS.register_module()
class VideoOrderSampler(Sampler[int]):
    """Whole videos per rank, frames in order, nothing padded or repeated.

    A network that remembers the last frame needs the next one of the same
    video. Videos go to the ranks longest first, each to the rank with the
    fewest frames so far; a rank then sees its videos in the order of the
    dataset. Frames are ordered by ``frame_key`` if the samples have it, else
    as in the dataset. With one process this is the order of
    ``DefaultSampler(shuffle=False)`` for any dataset stored video by video.

    Ranks get different numbers of frames, and none at all if there are fewer
    videos than ranks. That is fine in val and test loops: mmengine collects
    what there is. It is not in training, where all ranks step together.

    A video is recognised by ``video_key``, else by ``frame_dir`` or
    ``filename`` (mmaction2: every sample is a video), else by the folder of
    ``img_path``. Where a sample is one of several persons of a frame, let
    the key tell persons apart: each track is then a video of its own.

    Args:
        dataset: A dataset with ``get_data_info``; mmengine passes it.
        video_key: Key of a sample's video, or several keys, see
            :func:`mmskip.datasets.video_keys.find_video`. Defaults to
            'video_id'.
        frame_key: Key of a frame's position in its video. Defaults to
            'frame_id'.
        shuffle: Here so that the sampler can replace a ``DefaultSampler`` in
            an inherited config; must be False. Defaults to False.
        round_up: Likewise; it has no effect. Defaults to False.
        seed: mmengine passes it; it has no effect. Defaults to None.

    Raises:
        TypeError: The dataset has no ``get_data_info``.
        ValueError: ``shuffle`` is set, there is no way to tell the video of
            a sample, or a video contains a frame twice.
    """

    def __init__(
        self,
        dataset: VideoDataset,
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
        videos = group_frames(dataset, video_key, frame_key)
        if len(videos) < self.world_size and self.rank == 0:
            warnings.warn(
                f'{self.world_size} ranks share {len(videos)} videos, so '
                f'{self.world_size - len(videos)} of them have nothing to do',
                stacklevel=2,
            )
        self.indices = [
            index
            for video in share_videos(videos, self.world_size)[self.rank]
            for index in videos[video]
        ]

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        """Return the number of samples of this rank."""
        return len(self.indices)


def group_frames(
    dataset: VideoDataset,
    video_key: str | Sequence[str] = 'video_id',
    frame_key: str = 'frame_id',
) -> dict[Any, list[int]]:
    """Collect the samples of every video.

    Args:
        dataset: The dataset.
        video_key: Key of a sample's video, or several keys.
        frame_key: Key of a frame's position in its video.

    Returns:
        Sample indices by video, frames in order; videos in the order in
        which the dataset first shows them.

    Raises:
        ValueError: See :class:`VideoOrderSampler`.
    """
    frames: dict[Any, list[tuple[Any, int]]] = {}
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        video = find_video(info, video_key, ('frame_dir', 'filename'))
        if video is None:
            raise ValueError(
                'expected every sample to tell its video by '
                f"{describe_keys(video_key)}, 'frame_dir', 'filename' or the "
                f"folder of 'img_path', got sample {index} with the keys "
                f'{sorted(info)}; set `video_key`'
            )
        position = look_up(info, frame_key)
        frames.setdefault(video, []).append((position, index))
    return {
        video: _order(video, members, frame_key)
        for video, members in frames.items()
    }


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


def _order(video: Any, members: list[tuple[Any, int]], key: str) -> list[int]:
    """Sort ``(position, index)`` of one video and return the indices."""
    if any(position is None for position, _ in members):
        return [index for _, index in members]
    members = sorted(members)
    for (position, index), (following, other) in pairwise(members):
        if position == following:
            raise ValueError(
                f'expected each frame of video {video!r} once, got {key}='
                f'{position} in the samples {index} and {other}; give videos '
                'from different datasets different ids, let video_key tell '
                'the persons of a frame apart, and do not repeat a dataset '
                'in val and test'
            )
    return [index for _, index in members]

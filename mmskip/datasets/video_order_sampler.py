"""A sampler that gives every rank whole videos, frames in order."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from mmskip.registry import DATA_SAMPLERS

from .video_frames import FrameDataset, group_frames


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
        video_key: Key of a sample's video, or several keys, as of
            ``mmskip.VideoHook``; see
            :func:`mmskip.datasets.video_keys.find_video`. Defaults to
            'video_id'.
        frame_key: Key of a frame's position in its video, see
            :func:`mmskip.datasets.video_frames.group_frames`. Defaults to
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

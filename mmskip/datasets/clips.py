"""Clips of consecutive frames, from any dataset of frames."""

import bisect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS as ENGINE_DATASETS
from torch.utils.data import Dataset

from mmskip.options import check_least
from mmskip.reading import InputError
from mmskip.registry import DATASETS, FUNCTIONS

from .clip_draws import (
    ClipIndex,
    build_windows,
    check_positive,
    check_sharing,
    share_draws,
)
from .videos import FOLDER, Alone, describe_keys, group_frames

PADDINGS = ('error', 'drop', 'repeat', 'loop')


def group_videos(
    dataset: Any, video_key: str | Sequence[str], frame_key: str
) -> dict[Any, list[int]]:
    """Collect the samples of every video of which clips can be made.

    Args:
        dataset: A dataset with ``get_data_info``.
        video_key: See :func:`mmskip.datasets.videos.group_frames`.
        frame_key: Likewise.

    Returns:
        Sample indices by video, frames in order.

    Raises:
        InputError: A sample does not tell its video, or a video has two
            samples at one position.
    """
    videos = group_frames(dataset, video_key, frame_key)
    for video, members in videos.items():
        if isinstance(video, Alone):
            info = dataset.get_data_info(members[0])
            raise InputError(
                'expected every sample to tell its video by '
                f'{describe_keys(video_key)}, got sample {members[0]} with '
                f"the keys {sorted(info)}; set video_key, to '{FOLDER}' if "
                'the folder of an image is its video'
            )
    return videos


def find_parts(dataset: Any) -> list[Any]:
    """Find the datasets of frames that a dataset consists of.

    Args:
        dataset: A dataset with ``prepare_data``, or several concatenated.

    Raises:
        TypeError: It is another one.
    """
    if hasattr(dataset, 'prepare_data'):
        return [dataset]
    if hasattr(dataset, 'cumulative_sizes'):
        return [part for d in dataset.datasets for part in find_parts(d)]
    raise TypeError(
        'expected a dataset with the method prepare_data(idx), as '
        'mmengine.dataset.BaseDataset has, or a ConcatDataset of such, got '
        f'{type(dataset).__name__}; put ClipDataset inside of a wrapper that '
        'repeats, and do without one that mixes samples'
    )


def prepare(dataset: Any, index: int) -> Any:
    """Run the pipeline on a sample, without replacing it by another.

    Args:
        dataset: A dataset with ``prepare_data``, or several concatenated.
        index: Index of the sample.
    """
    if hasattr(dataset, 'prepare_data'):
        return dataset.prepare_data(index)
    number = bisect.bisect_right(dataset.cumulative_sizes, index)
    before = dataset.cumulative_sizes[number - 1] if number else 0
    return prepare(dataset.datasets[number], index - before)


def count_starts(
    video: Any, length: int, span: int, padding: str, num_frames: int
) -> int:
    """Count the positions at which a clip can start.

    Args:
        video: Its id, for the message.
        length: Number of frames of the video.
        span: Number of frames from the first to the last of a clip.
        padding: What to do if the video is shorter, one of ``PADDINGS``.
        num_frames: Number of frames of a clip, for the message.

    Raises:
        ValueError: The video is too short and ``padding`` is 'error'.
    """
    if length >= span:
        return length - span + 1
    if padding == 'error':
        raise ValueError(
            f'expected videos of at least {span} frames for clips of '
            f'{num_frames}, got {length} in video {video!r}; set padding to '
            "'repeat' (the last frame), 'loop' or 'drop', or shorten the "
            'clips by num_frames or stride'
        )
    return 0 if padding == 'drop' else 1


def clip_positions(
    start: int, num_frames: int, stride: int, length: int, padding: str
) -> list[int]:
    """Return the positions of a clip's frames in a video."""
    positions = start + stride * np.arange(num_frames)
    if padding == 'loop':
        return (positions % length).tolist()
    return np.minimum(positions, length - 1).tolist()


@FUNCTIONS.register_module()
def clip_collate(data_batch: Sequence[Sequence[Mapping]]) -> dict[str, Any]:
    """Fold clips into a batch, clip-major, as ``pseudo_collate`` folds images.

    Frame t of clip b is image ``b * T + t`` of the batch, which is what
    ``mmskip.VideoHook(num_frames=T)`` and :func:`mmskip.clip` expect. Data
    preprocessors, heads and losses see a batch like any other.

    Args:
        data_batch: B clips as :class:`mmskip.datasets.ClipDataset` yields
            them, each a list of T packed frames.

    Returns:
        ``dict(inputs=[...], data_samples=[...])``, lists of B*T.

    Raises:
        TypeError: The batch does not consist of clips.
        ValueError: The clips differ in their number of frames.
    """
    for clip in data_batch:
        if (
            not isinstance(clip, (list, tuple))
            or not clip
            or not all(isinstance(frame, Mapping) for frame in clip)
        ):
            raise TypeError(
                'expected a batch of clips, each a list of packed frames, '
                f'got {type(clip).__name__}; wrap the dataset of this loader '
                "in dict(type='mmskip.ClipDataset', num_frames=..., "
                'dataset=...), or use another collate_fn'
            )
    lengths = sorted({len(clip) for clip in data_batch})
    if len(lengths) != 1:
        raise ValueError(
            'expected at least one clip, and clips of one length, got '
            f'{lengths or "no clip"}; datasets that share a loader need the '
            'same num_frames'
        )
    return pseudo_collate([frame for clip in data_batch for frame in clip])


@DATASETS.register_module()
class ClipDataset(Dataset):
    """T consecutive frames of a video as one sample.

    A sample is a list of T packed frames, each as the wrapped dataset yields
    it. All go through the pipeline with the same random choices: one flip,
    one crop, one change of colours for the whole clip. Use it with
    ``collate_fn=dict(type='mmskip.clip_collate')``, with
    ``mmskip.VideoHook(num_frames=T)``, and with
    ``sampler=dict(type='mmskip.ClipSampler')``, which makes the choices
    independent of the number of workers and ranks. ``batch_size`` then
    counts clips.

    If the pipeline returns None for a frame (a crop without objects, say),
    its clip is given up and another one, drawn at random, takes its place;
    in ``test_mode`` of the wrapped dataset that is an error.

    Frames that the wrapped dataset filters out are missing in the clips: the
    frames before and after them become neighbours.

    Args:
        dataset: Dataset of frames, or its config, built in the current
            scope. Datasets may be concatenated inside, with
            ``mmengine.dataset.ConcatDataset``.
        num_frames: Frames T of a clip.
        stride: Frames from one frame of a clip to the next. Defaults to 1.
        windows: Which clips there are: ``dict(type='AllWindows', step=1)``,
            ``dict(type='RandomStart', clips_per_video=1)``, or a callable
            like them. None means ``AllWindows()``. Defaults to None.
        padding: What to do with videos shorter than a clip: 'repeat' their
            last frame, 'loop' them, 'drop' them, or 'error'. Defaults to
            'error'.
        video_key: Key of a sample's video, or several keys; see
            :func:`mmskip.datasets.videos.find_video`. 'img_path' is the
            folder of an image. Defaults to 'video_id'.
        frame_key: Key of a frame's position in its video, see
            :func:`mmskip.datasets.videos.group_frames`. Defaults to
            'frame_id'.
        max_refetch: How many other clips to try. Defaults to 1000.
        lazy_init: Whether to wait with :meth:`full_init`. Defaults to False.

    Raises:
        TypeError: The dataset cannot be used frame by frame.
        ValueError: An option is out of range, a transform cannot be shared
            by frames, frames do not tell their video, or a video is too
            short.
    """

    def __init__(
        self,
        dataset: Any,
        num_frames: int,
        stride: int = 1,
        windows: Mapping | Callable[[int], list[range]] | None = None,
        padding: str = 'error',
        video_key: str | Sequence[str] = 'video_id',
        frame_key: str = 'frame_id',
        max_refetch: int = 1000,
        lazy_init: bool = False,
    ) -> None:
        self.num_frames = check_positive('num_frames', num_frames)
        self.stride = check_positive('stride', stride)
        if padding not in PADDINGS:
            raise ValueError(
                f'expected padding to be one of {PADDINGS}, got {padding!r}'
            )
        self.windows = build_windows(windows)
        self.padding = padding
        self.video_key = video_key
        self.frame_key = frame_key
        check_least(0, max_refetch=max_refetch)
        self.max_refetch = max_refetch
        if isinstance(dataset, Mapping):
            dataset = ENGINE_DATASETS.build(dataset)
        self._parts = find_parts(dataset)
        check_sharing(dataset)
        self.dataset = dataset
        self._fully_initialized = False
        if not lazy_init:
            self.full_init()

    def full_init(self) -> None:
        """Load the annotations and list the clips."""
        if self._fully_initialized:
            return
        self.dataset.full_init()
        videos = group_videos(self.dataset, self.video_key, self.frame_key)
        span = (self.num_frames - 1) * self.stride + 1
        clips = []
        for number, (video, frames) in enumerate(videos.items()):
            starts = self.windows(
                count_starts(
                    video, len(frames), span, self.padding, self.num_frames
                )
            )
            clips += [(number, part.start, part.stop) for part in starts]
        if not clips:
            raise ValueError(
                f'expected at least one clip of {span} frames, got none from '
                f'{len(videos)} videos with padding={self.padding!r}; shorten '
                "the clips, or set padding to 'repeat' or 'loop'"
            )
        # Arrays: workers share them, where lists would be copied.
        self._frames = [np.asarray(frames) for frames in videos.values()]
        self._clips = np.asarray(clips)
        self._fully_initialized = True

    @property
    def metainfo(self) -> dict:
        """Meta information of the wrapped dataset."""
        return self.dataset.metainfo

    @property
    def test_mode(self) -> bool:
        """True if the wrapped dataset is in test mode."""
        return any(getattr(part, 'test_mode', False) for part in self._parts)

    @property
    def pipeline(self) -> Callable:
        """Pipeline of the frames, for hooks that replace it in training."""
        return self._parts[0].pipeline

    @pipeline.setter
    def pipeline(self, pipeline: Callable) -> None:
        for part in self._parts:
            part.pipeline = pipeline
        check_sharing(self.dataset)

    def __len__(self) -> int:
        """Return the number of clips of an epoch."""
        self.full_init()
        return len(self._clips)

    def get_data_info(self, idx: int) -> dict:
        """Return the annotation of the first frame of a clip.

        A clip that starts anywhere is represented by its first possible
        frame.

        Args:
            idx: Index of the clip.

        Returns:
            The annotation; ``sample_idx`` is that of the clip.
        """
        frames = self._frames_of(self._check(idx))
        info = self.dataset.get_data_info(frames[0])
        return {**info, 'sample_idx': int(idx)}

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the labels of all frames of a clip, for balanced sampling.

        Args:
            idx: Index of the clip.
        """
        frames = self._frames_of(self._check(idx))
        return [
            label
            for frame in frames
            for label in self.dataset.get_cat_ids(frame)
        ]

    def __getitem__(self, idx: int) -> list[dict]:
        """Load a clip.

        Args:
            idx: Index of the clip; from ``ClipSampler`` it carries a seed,
                else one is drawn from torch.

        Returns:
            The packed frames, in order.

        Raises:
            IndexError: There is no such clip.
            RuntimeError: The pipeline returned None too often, or in test
                mode.
        """
        index = self._check(idx)
        seeded = isinstance(idx, ClipIndex)
        draws = np.random.default_rng(
            idx.seed if seeded else int(torch.randint(2**31, ()))
        )
        for _ in range(self.max_refetch + 1):
            frames = self._frames_of(index, draws)
            clip = self._load(frames, int(draws.integers(2**32)))
            if clip is not None:
                return clip
            if self.test_mode:
                raise RuntimeError(
                    'expected a pipeline that keeps every frame in test '
                    f'mode, got None for a frame of clip {index}; remove '
                    'filters from the pipeline'
                )
            index = int(draws.integers(len(self)))
        raise RuntimeError(
            'expected a clip all of whose frames pass the pipeline, got None '
            f'for {self.max_refetch + 1} clips; look at image paths and at '
            'transforms that filter, or use fewer frames'
        )

    def _check(self, idx: int) -> int:
        if not -len(self) <= idx < len(self):
            raise IndexError(f'expected a clip 0..{len(self) - 1}, got {idx}')
        return int(idx) % len(self)

    def _frames_of(
        self, index: int, draws: np.random.Generator | None = None
    ) -> list[int]:
        """Return the samples of a clip, from its first without ``draws``."""
        video, first, stop = self._clips[index]
        start = first if draws is None else draws.integers(first, stop)
        frames = self._frames[video]
        positions = clip_positions(
            start, self.num_frames, self.stride, len(frames), self.padding
        )
        return frames[positions].tolist()

    def _load(self, frames: list[int], seed: int) -> list[dict] | None:
        """Run the pipeline; None if it gives up one of the frames."""
        clip = []
        with share_draws(self.dataset, seed) as draws:
            for frame in frames:
                with draws.sample():
                    packed = prepare(self.dataset, frame)
                if packed is None:
                    return None
                clip.append(packed)
        return clip

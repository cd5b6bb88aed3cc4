"""The order of a loader's samples: where new streams begin, and may begin."""

import logging
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from mmengine.dataset import DefaultSampler
from mmengine.logging import print_log
from torch.utils.data import BatchSampler, RandomSampler

from mmskip.datasets import VideoOrderSampler
from mmskip.datasets.videos import (
    FOLDER,
    OTHER_KEYS,
    Alone,
    describe_keys,
    find_jump,
    find_position,
    find_video,
    group_frames,
    natural_key,
)
from mmskip.reading import InputError

FRAME = 'frame_id'
SAMPLER = "sampler=dict(type='mmskip.VideoOrderSampler')"


class VideoOrder:
    """Follows the samples of a val or test loader through their videos.

    A stream is right only where each frame follows the one before it in its
    video. Whether a loader gives frames so is known before the first of
    them, from its sampler and the annotations of its dataset; a loader that
    does not is refused. Of one that cannot be asked (a dataset without
    ``get_data_info``) the samples are all there is: where ``frame_id`` goes
    back the stream restarts, and how often is told at the end.

    Args:
        loader: The data loader.
        name: What messages call it, such as ``val_dataloader``.
        video_key: Key of a sample's video, or several keys, see
            :func:`mmskip.datasets.videos.find_video`. A sample without
            it is a video of its own.
        reset_interval: Frames after which a stream restarts even within a
            video; None for never.

    Raises:
        InputError: A video has two samples at one position.
    """

    def __init__(
        self,
        loader: Any,
        name: str,
        video_key: str | Sequence[str] = 'video_id',
        reset_interval: int | None = None,
    ) -> None:
        self.loader = loader
        self.name = name
        self.video_key = video_key
        self.reset_interval = reset_interval
        self._videos = self._group()
        self._forget()

    def start(self) -> None:
        """Begin to follow the loader anew, and look at its order.

        Raises:
            InputError: It does not give whole videos, frames in order.
        """
        self._forget()
        sampler = getattr(self.loader, 'sampler', None)
        if self._videos is None:
            if _mixes(sampler):
                raise self._refusal(f'{type(sampler).__name__} mixes them')
            return
        if all(len(members) == 1 for members in self._videos.values()):
            self._tell_of_single_images()
            return
        if (
            isinstance(sampler, VideoOrderSampler)
            and sampler.video_key != self.video_key
        ):
            raise InputError(
                f'{self.name}: expected the same video_key in '
                'mmskip.VideoHook and mmskip.VideoOrderSampler, got '
                f'{self.video_key!r} and {sampler.video_key!r}'
            )
        self._check(sampler)

    def follow(self, data_batch: Any) -> list[bool]:
        """Tell which samples of the next batch begin a new stream.

        Args:
            data_batch: A batch as stock loaders collate it: a dict with
                ``data_samples``, or a list of such dicts.

        Returns:
            For each sample, whether it does.

        Raises:
            InputError: A sample does not tell its video, but its annotation
                does.
        """
        begins = []
        for sample in _samples(data_batch):
            info = sample.metainfo
            video = find_video(info, self.video_key)
            position = find_position(info, self.video_key, FRAME)
            if video is None:
                self._check_untold(info)
            goes_on = video is not None and video == self._video
            if goes_on and _goes_back(self._position, position):
                self._jumps += 1
                goes_on = False
            elif not goes_on and self._videos is None:
                self._jumps += video in self._begun
                self._begun |= {video} - {None}
            begins.append(not goes_on or self._age == self.reset_interval)
            if begins[-1]:
                self._age = 0
            self._video, self._position = video, position
            self._age += 1
            self._seen += 1
        return begins

    def finish(self) -> None:
        """Tell how many frames did not follow the one before them."""
        if self._jumps:
            print_log(
                f'{self.name}: {self._jumps} of {self._seen} frames came '
                'after a later frame of their video, or after another video '
                'had come between; the stream restarted there, so that '
                'results and MACs are not those of the videos. Put '
                f'{SAMPLER} into {self.name}',
                'current',
                logging.WARNING,
            )
        if self._untold and self._videos is None:
            print_log(
                f'{self.name}: {self._untold} of {self._seen} samples did '
                f'not tell their video ({describe_keys(self.video_key)}): '
                'each was a reference frame. Add it to meta_keys of the '
                'transform that packs the inputs',
                'current',
                logging.WARNING,
            )

    def _forget(self) -> None:
        self._video: Any = None
        self._position: Any = None
        self._begun: set[Any] = set()
        self._age = self._seen = self._jumps = self._untold = 0

    def _group(self) -> dict[Any, list[int]] | None:
        """Group samples by video; None if the dataset cannot tell."""
        sampler = getattr(self.loader, 'sampler', None)
        if (
            isinstance(sampler, VideoOrderSampler)
            and sampler.video_key == self.video_key
        ):
            return sampler.videos
        dataset = getattr(self.loader, 'dataset', None)
        if not hasattr(dataset, 'get_data_info'):
            return None
        return group_frames(dataset, self.video_key, FRAME)

    def _check(self, sampler: Any) -> None:
        batches = self.loader.batch_sampler
        # Not through the batches, which may leave out the last one.
        plain = type(batches) is BatchSampler
        indices = list(sampler if plain else chain.from_iterable(batches))
        known = {i for members in self._videos.values() for i in members}
        if not known.issuperset(indices):
            return  # such as pairs of a video and a frame: a loader of videos
        jump = find_jump(indices, self._videos)
        if jump is None:
            return
        expected = f'frame {jump.frame} of {jump.video!r}'
        if jump.found is None:
            raise self._refusal(f'it ends before {expected}')
        video, frame = jump.found
        found = f'frame {frame} of {video!r}'
        raise self._refusal(f'{found} comes in the place of {expected}')

    def _refusal(self, what: str) -> InputError:
        return InputError(
            f'{self.name}: expected whole videos on each process, with their '
            f'frames in order, but {what} (frames from 0); put {SAMPLER} '
            f'into {self.name}'
        )

    def _tell_of_single_images(self) -> None:
        print_log(
            f'{self.name}: no two of the {len(self._videos)} samples are '
            f'frames of one video, as {describe_keys(self.video_key)} tells: '
            'each is a reference frame, and nothing is skipped. If the '
            'images of a folder are the frames of a video, set '
            f"video_key='{FOLDER}' in mmskip.VideoHook and in "
            'mmskip.VideoOrderSampler',
            'current',
            logging.WARNING,
        )

    def _check_untold(self, info: dict) -> None:
        self._untold += 1
        if self._videos is None or self._untold > 1:
            return
        told = [v for v in self._videos.values() if len(v) > 1]
        has_images = any(isinstance(video, Alone) for video in self._videos)
        if told and not has_images:
            keys = ', '.join(map(repr, OTHER_KEYS))
            raise InputError(
                f'{self.name}: expected {describe_keys(self.video_key)} (or '
                f'{keys}) in the meta info of the data samples, as the '
                f'annotations have it, got {sorted(info)}; add it to '
                'meta_keys of the transform that packs the inputs'
            )


def _mixes(sampler: Any) -> bool:
    """Tell whether a sampler is known to give frames out of order."""
    if isinstance(sampler, DefaultSampler):
        return sampler.shuffle or sampler.world_size > 1
    return isinstance(sampler, RandomSampler)


def _goes_back(last: Any, position: Any) -> bool:
    if last is None or position is None:
        return False
    return natural_key(position) <= natural_key(last)


def _samples(data_batch: Any) -> Iterator[Any]:
    """Yield the data samples of a batch, as any stock loader collates it."""
    if isinstance(data_batch, dict):
        yield from data_batch['data_samples']
    else:
        yield from (item['data_samples'] for item in data_batch)

"""Key frames of a video: what the baselines that lean on them share."""

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement

from mmskip.datasets.video_keys import (
    FOLDER,
    describe_keys,
    find_video,
    natural_key,
)
from mmskip.runtime import FrameSkipper


@dataclass
class VideoPosition:
    """Where in which video a model is.

    Attributes:
        video: Identity of the video. None before the first frame.
        frame: ``frame_id`` of the last frame, if samples have it.
        repeats: How many frames ago the last key frame was.
    """

    video: Any = None
    frame: int | str | None = None
    repeats: int = 0


class KeyFrames(FrameSkipper):
    """Tells key frames, and forgets a video in time.

    Base of the classes that :func:`mix_in` puts in front of a model's own.
    Key frames are the first frame of a video and every
    ``keyframe_interval``-th after it. A video begins when the video id
    changes, when ``frame_id`` does not increase, and after ``train()`` or
    ``eval()``, hence with every run of a val or test loop. Frames that are
    missing go unnoticed here; ``mmskip.VideoHook`` refuses loaders that
    leave them out.

    Attributes:
        keyframe_interval: Distance of the key frames.
        keyframe_video_key: Key of the video in the meta information.
        keyframe_memory: What is kept of the video that runs.
        memory_type: Class of that; ``memory_type()`` remembers nothing.
    """

    memory_type: type[VideoPosition] = VideoPosition
    keyframe_interval: int
    keyframe_video_key: str | Sequence[str]
    keyframe_memory: VideoPosition

    def train(self, mode: bool = True) -> 'KeyFrames':
        """Change the mode as usual and forget the last video."""
        self.keyframe_memory = self.memory_type()
        return super().train(mode)

    def _find_keys(self, data: dict) -> tuple[list[int], Any]:
        """Tell which of the images are key frames.

        Returns:
            Their indices, and a copy of the memory as it is after the last
            image but for what is kept of key frames.

        Raises:
            ValueError: ``data`` is not of images and their data samples, or
                a sample does not tell its video.
        """
        if (
            not isinstance(data, dict)
            or not isinstance(data.get('inputs'), torch.Tensor)
            or not data.get('data_samples')
        ):
            raise ValueError(
                "expected a dict with a tensor 'inputs' and 'data_samples' "
                f'from the data preprocessor, got {type(data).__name__}'
                + (f' with {sorted(data)}' if isinstance(data, dict) else '')
                + '; a model with key frames predicts images of videos'
            )
        memory = copy.copy(self.keyframe_memory)
        keys = []
        for index, sample in enumerate(data['data_samples']):
            video = _video_of(sample, self.keyframe_video_key)
            frame = sample.metainfo.get('frame_id')
            goes_on = video == memory.video and not (
                frame is not None
                and memory.frame is not None
                and natural_key(frame) <= natural_key(memory.frame)
            )
            memory.video, memory.frame = video, frame
            if goes_on and memory.repeats + 1 < self.keyframe_interval:
                memory.repeats += 1
            else:
                memory.repeats = 0
                keys.append(index)
        return keys, memory

    def __reduce__(self) -> tuple:
        """Pickle and copy by the host's class, without the last video."""
        state = dict(self.__dict__, keyframe_memory=self.memory_type())
        state.pop('mmskip_ledger', None)
        return _make_blank, type(self).__bases__, state


def mix_in(
    mixin: type[KeyFrames],
    model: BaseModel,
    interval: int,
    video_key: str | Sequence[str],
) -> BaseModel:
    """Put a kind of :class:`KeyFrames` in front of a model's own class.

    Args:
        mixin: What to put there.
        model: Changed in place: its class becomes a subclass of what it was;
            parameters, hooks and keys of the ``state_dict`` stay.
        interval: Distance of the key frames.
        video_key: Key of the video in the meta information, or several.

    Returns:
        The very model.

    Raises:
        TypeError: ``model`` is not a model of mmengine.
        ValueError: ``interval`` is not 1, 2, ..., or the model uses key
            frames already.
    """
    if not isinstance(model, BaseModel):
        raise TypeError(
            f'expected an mmengine BaseModel, got {type(model).__name__}'
        )
    if isinstance(model, KeyFrames):
        raise ValueError(
            'expected a model without key frames, got one with interval '
            f'{model.keyframe_interval}; set model.keyframe_interval instead'
        )
    check_interval(interval)
    model.__class__ = _mixed_class(mixin, type(model))
    model.keyframe_interval = interval
    model.keyframe_video_key = video_key
    model.keyframe_memory = mixin.memory_type()
    return model


def check_interval(interval: int) -> None:
    """Refuse a distance of key frames.

    Raises:
        ValueError: It is not 1, 2, ...
    """
    if not isinstance(interval, int) or interval < 1:
        raise ValueError(f'expected interval 1, 2, ..., got {interval!r}')


@functools.cache
def _mixed_class(mixin: type[KeyFrames], host: type) -> type:
    """Derive from a model's class, once per class."""
    name = mixin.__name__.removesuffix('Mixin') + host.__name__
    return type(name, (mixin, host), {})


def _make_blank(mixin: type[KeyFrames], host: type) -> BaseModel:
    """Make an object for unpickling to fill."""
    kind = _mixed_class(mixin, host)
    return kind.__new__(kind)


def _video_of(sample: BaseDataElement, video_key: str | Sequence[str]) -> Any:
    """Tell which video a data sample belongs to."""
    video = find_video(sample.metainfo, video_key)
    if video is None:
        raise ValueError(
            f'expected data samples with {describe_keys(video_key)} in their '
            f'meta information, got {sorted(sample.metainfo)}; add it to '
            'meta_keys where the pipeline packs its inputs, or set '
            f"video_key='{FOLDER}' if the folder of an image is its video"
        )
    return video

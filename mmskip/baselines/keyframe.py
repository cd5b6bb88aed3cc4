"""The frame-skip baseline, and the key frames of all baselines.

The frame-skip baseline runs every k-th frame and repeats its result between.
The paper calls it 'interleaved' (Skip-Conv, Section 4.1): "model predictions
are propagated from keyframes to the next frames without further processing".
"""

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement

from mmskip.core import FrameSkipper
from mmskip.datasets.videos import (
    FOLDER,
    describe_keys,
    find_video,
    natural_key,
)
from mmskip.registry import MODELS


@dataclass
class VideoPosition:
    """The position of a model in a video.

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


@dataclass
class KeyframeMemory(VideoPosition):
    """The memory of the video that runs: its last predictions.

    Attributes:
        ori_shape: ``(height, width)`` of the image of the last key frame.
        predictions: Its prediction fields by name.
    """

    ori_shape: tuple | None = None
    predictions: dict[str, Any] = field(default_factory=dict)


class KeyframeMixin(KeyFrames):
    """Makes a model predict on key frames only.

    Mixed in front of the model's own class by :func:`use_keyframes`. Only
    ``val_step`` and ``test_step`` change; training and calls of the model
    itself are the model's own.
    """

    memory_type = KeyframeMemory

    def _run_forward(self, data: dict, mode: str) -> Any:
        """Run the model, but on key frames only if it is to predict.

        Every step of an mmengine model passes through here, after the
        preprocessor.

        Args:
            data: ``inputs``, images of shape ``(N, C, H, W)``, consecutive
                frames if N is more than one, and their N ``data_samples``.
            mode: 'loss' or 'predict'.

        Returns:
            What the model returns; for 'predict' a list of N data samples.

        Raises:
            ValueError: A data sample does not tell its video, or the size of
                the images changes within a video.
        """
        if mode != 'predict':
            return super()._run_forward(data, mode)
        keys, memory = self._find_keys(data)
        results = list(data['data_samples'])
        if keys:
            due = dict(data, data_samples=[results[key] for key in keys])
            if len(keys) < len(results):
                due['inputs'] = data['inputs'][keys]
            predicted = super()._run_forward(due, mode)
            for key, result in zip(keys, predicted, strict=True):
                results[key] = result
        for index, result in enumerate(results):
            if index in keys:
                memory.ori_shape = result.metainfo.get('ori_shape')
                memory.predictions = _copy_predictions(result)
            else:
                _repeat(memory, result)
        self.keyframe_memory = memory
        skipped = len(results) - len(keys)
        if skipped and self.mmskip_ledger is not None:
            self.mmskip_ledger.record_skipped_frames(skipped)
        return results


def use_keyframes(
    model: BaseModel, interval: int = 4, video_key: str = 'video_id'
) -> BaseModel:
    """Make a model predict on every ``interval``-th frame of a video only.

    Args:
        model: A model of mmengine with one data sample per image (a top-down
            pose estimator has one per person: not for it). Changed in place:
            its class becomes a subclass of what it was; parameters, hooks
            and keys of the ``state_dict`` stay.
        interval: Distance of the key frames; 1 is the model itself.
            Defaults to 4.
        video_key: Key in the data samples' meta information that tells the
            video, or several keys, see
            :func:`mmskip.datasets.videos.find_video`. Defaults to
            'video_id'.

    Returns:
        The very model.

    Raises:
        TypeError: ``model`` is not a model of mmengine.
        ValueError: ``interval`` is not 1, 2, ..., or the model uses key
            frames already.
    """
    return mix_in(KeyframeMixin, model, interval, video_key)


@MODELS.register_module('KeyframeModel')
def build_keyframe_model(
    arch: str,
    interval: int = 4,
    video_key: str = 'video_id',
    **config,
) -> BaseModel:
    """Build a model and make it predict on key frames only.

    In a config, on top of any detector's::

        model = dict(
            type='mmskip.KeyframeModel', arch='RetinaNet', interval=4
        )

    Args:
        arch: What ``type`` was: the model's name, looked up in the current
            scope.
        interval: See :func:`use_keyframes`. Defaults to 4.
        video_key: See :func:`use_keyframes`. Defaults to 'video_id'.
        **config: The remaining keys of the model's config.

    Returns:
        The model, with the ``state_dict`` keys of ``arch``.
    """
    check_interval(interval)  # before a model is built
    return use_keyframes(
        MODELS.build(dict(type=arch, **config)), interval, video_key
    )


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


def _copy_predictions(sample: BaseDataElement) -> dict[str, Any]:
    """Copy what a model predicted: ``pred_instances``, ``pred_sem_seg``...

    Fields of mmdet, mmpose and mmaction2 that hold predictions begin with
    'pred', and no others do.
    """
    return {
        name: _copy(value)
        for name, value in sample.items()
        if name.startswith('pred')
    }


def _copy(value: Any) -> Any:
    """Copy tensors and data elements so that nothing is shared."""
    if isinstance(value, (torch.Tensor, BaseDataElement)):
        value = value.detach()
    return copy.deepcopy(value)


def _repeat(memory: KeyframeMemory, sample: BaseDataElement) -> None:
    """Write the last predictions into a data sample."""
    shape = sample.metainfo.get('ori_shape')
    if shape != memory.ori_shape:
        raise ValueError(
            f'expected images of one size within the video {memory.video!r}, '
            f'got ori_shape {memory.ori_shape} and then {shape}; predictions '
            'can only be repeated at the same size'
        )
    for name, value in memory.predictions.items():
        setattr(sample, name, _copy(value))

"""The frame-skip baseline: run every k-th frame, repeat its result between.

The paper calls it 'interleaved' (Skip-Conv, Section 4.1): "model predictions
are propagated from keyframes to the next frames without further processing".
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement

from mmskip.registry import MODELS

from .key_frames import KeyFrames, VideoPosition, check_interval, mix_in


@dataclass
class KeyframeMemory(VideoPosition):
    """What is kept of the video that runs.

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
            :func:`mmskip.datasets.video_keys.find_video`. Defaults to
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

"""Three small frames of the kind that a model takes, of any host."""

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor

NUM_FRAMES = 3
#: Sides of square pictures, tried from the smallest.
_SIDES = dict(mmdet=(96, 128, 256, 320, 512), mmaction=(64, 112, 224))
_SAMPLES = dict(
    mmdet=('mmdet.structures', 'DetDataSample'),
    mmpose=('mmpose.structures', 'PoseDataSample'),
    mmaction=('mmaction.structures', 'ActionDataSample'),
)
#: Joints by the layout of a skeleton.
_JOINTS = {'coco': 17, 'openpose': 18, 'nturgb+d': 25}
#: Boxes in fractions of the picture, some of each size.
_BOXES = (
    (0.0, 0.0, 1.0, 1.0),
    (0.1, 0.2, 0.5, 0.6),
    (0.4, 0.1, 0.9, 0.5),
    (0.3, 0.3, 0.55, 0.7),
    (0.6, 0.6, 0.8, 0.9),
    (0.05, 0.7, 0.2, 0.95),
)


class Frames(NamedTuple):
    """A short video, and what a host wants to know of its frames.

    Attributes:
        images: Tensors of one shape, as the model gets them.
        samples: Data samples of a frame; the same for all.
    """

    images: list[Tensor]
    samples: list[BaseDataElement]


def candidate_frames(
    host: str, config: Config, model: dict[str, Any]
) -> Iterator[Frames]:
    """Frames that the model might take, from the cheapest.

    Args:
        host: Its package.
        config: Which may say how large its inputs are.
        model: Config of the model itself.
    """
    for shape in dict.fromkeys(_SHAPES[host](config, model)):
        generator = torch.Generator().manual_seed(0)
        yield Frames(make_video(shape, generator), [_sample(host, shape[-2:])])


def make_video(
    shape: Sequence[int], generator: torch.Generator
) -> list[Tensor]:
    """Noise in which one patch moves and the rest stays.

    Args:
        shape: Of each frame (..., H, W).
        generator: Of the noise.
    """
    still = torch.randn(*shape, generator=generator)
    height, width = (max(size // 4, 1) for size in shape[-2:])
    patch = torch.randn(*shape[:-2], height, width, generator=generator)
    video = []
    for index in range(NUM_FRAMES):
        frame = still.clone()
        top, left = index * height // 2, index * width // 2
        frame[..., top : top + height, left : left + width] = patch
        video.append(frame)
    return video


def fixed_boxes(size: Sequence[int]) -> InstanceData:
    """Proposals that do not depend on a score.

    Args:
        size: Of the picture (H, W).
    """
    height, width = size
    scale = torch.tensor([width, height, width, height])
    return InstanceData(
        bboxes=torch.tensor(_BOXES) * scale,
        scores=torch.ones(len(_BOXES)),
        labels=torch.zeros(len(_BOXES), dtype=torch.long),
    )


def _sample(host: str, size: Sequence[int]) -> BaseDataElement:
    module, name = _SAMPLES[host]
    size = tuple(size)
    sample = getattr(import_module(module), name)(
        metainfo=dict(
            img_shape=size,
            ori_shape=size,
            pad_shape=size,
            batch_input_shape=size,
            scale_factor=(1.0, 1.0),
        )
    )
    sample.proposals = fixed_boxes(size)
    return sample


def _images(config: Config, model: dict[str, Any]) -> Iterator[tuple]:
    channels = _channels(model)
    for side in _SIDES['mmdet']:
        yield 1, channels, side, side


def _poses(config: Config, model: dict[str, Any]) -> Iterator[tuple]:
    channels = _channels(model)
    yield 1, channels, 96, 96
    yield 1, channels, 128, 128
    codec = config.get('codec') or {}
    sizes = [codec] if isinstance(codec, dict) else codec
    for size in (c.get('input_size') for c in sizes):
        if size is not None:
            width, height = size[:2]
            yield 1, channels, height, width
    yield 1, channels, 256, 256


def _clips(config: Config, model: dict[str, Any]) -> Iterator[tuple]:
    channels, sampling = _channels(model), _sampling(config)
    segments = model.get('backbone', {}).get('num_segments')
    length = sampling.get('clip_len', 8)
    segments = segments or max(sampling.get('num_clips', 1), 1)
    kind = model['type']
    if kind == 'RecognizerGCN':
        layout = model['backbone']['graph_cfg']['layout']
        people = model['backbone'].get('num_person', 2)
        yield 1, 1, people, 32, _JOINTS[layout], channels
        return
    if kind == 'RecognizerAudio':
        yield 1, 1, 1, 128, 80
        return
    for side in _SIDES['mmaction']:
        if kind == 'FastRCNN':
            yield 1, channels, length, side, side
        elif kind == 'Recognizer2D':
            yield 1, segments, channels, side, side
        else:
            yield 1, 1, channels, length, side, side


def _channels(model: dict[str, Any]) -> int:
    return model.get('backbone', {}).get('in_channels', 3)


def _sampling(config: Config) -> dict[str, Any]:
    """How a validation pipeline samples frames, as far as it says so."""
    names = ('val_pipeline', 'test_pipeline', 'train_pipeline')
    steps = [step for name in names for step in config.get(name) or ()]
    kinds = ('SampleFrames', 'UniformSampleFrames', 'UniformSample')
    kinds += ('SampleAVAFrames', 'DenseSampleFrames')
    found = (s for s in steps if str(s.get('type')).split('.')[-1] in kinds)
    return next(found, {})


_SHAPES = dict(mmdet=_images, mmpose=_poses, mmaction=_clips)

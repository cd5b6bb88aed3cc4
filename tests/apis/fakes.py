"""Small videos on disk, and a detector of two convolutions."""

from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.structures import InstanceData
from torch import nn

import mmskip

# Of a frame of 64 x 48: (64 / 2) * (48 / 2) * 3 * 4 * 9 and 4 * 2 * 1 more.
FRAME_SIZE = (64, 48)
FRAME_MACS = 32 * 24 * (3 * 4 * 9 + 4 * 2)


def noise_frames(count, size=FRAME_SIZE, seed=0):
    rng = np.random.default_rng(seed)
    shape = (count, size[1], size[0], 3)
    return list(rng.integers(0, 256, shape, dtype=np.uint8))


def static_frames(count, size=FRAME_SIZE):
    return noise_frames(1, size) * count


def write_video(path, frames, codec='MJPG', fps=25):
    height, width = frames[0].shape[:2]
    fourcc = cv2.VideoWriter_fourcc(*codec)
    writer = cv2.VideoWriter(str(path), fourcc, fps, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()
    return Path(path)


def read_video(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (image := capture.read()[1]) is not None:
        frames.append(image)
    capture.release()
    return frames


def damage_frame(path, index, intact=0.0):
    """Overwrite one JPEG of a Motion JPEG file but its first share."""
    data = bytearray(path.read_bytes())
    starts, position = [], data.find(b'movi')
    while (position := data.find(b'00dc', position)) != -1:
        starts.append(position)
        position += 4
    start = starts[index]
    size = int.from_bytes(data[start + 4 : start + 8], 'little')
    kept = round(intact * size)
    data[start + 8 + kept : start + 8 + size] = bytes(size - kept)
    path.write_bytes(data)
    return path


class TinyDetector(BaseModel):
    """Predicts the mean of its features as the score of one fixed box."""

    def __init__(self):
        super().__init__(BaseDataPreprocessor())
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.second = nn.Conv2d(4, 2, 1)

    def forward(self, inputs, data_samples, mode='predict'):
        features = self.second(self.first(torch.stack(inputs).float() / 255))
        data_samples[0].pred_instances = InstanceData(
            bboxes=torch.tensor([[4.0, 4.0, 20.0, 20.0]]),
            scores=features.mean().sigmoid()[None],
            labels=torch.tensor([0]),
        )
        return data_samples


def tiny_detector(threshold=None, pipeline=None):
    """A :class:`TinyDetector` with its config; converted if asked to be."""
    torch.manual_seed(0)
    model = TinyDetector().eval()
    pipeline = pipeline or [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs', meta_keys=('img_id', 'img_shape')),
    ]
    model.cfg = Config(
        dict(
            default_scope='mmdet',
            test_dataloader=dict(dataset=dict(pipeline=pipeline)),
        )
    )
    model.dataset_meta = dict(classes=('car',))
    if threshold is not None:
        gate = dict(type='OutputNormGate', threshold=threshold)
        mmskip.convert(model, mmskip.SkipConversion(gate=gate))
    return model

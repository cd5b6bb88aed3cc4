"""Frames of noise videos, and what a detector finds in them."""

import torch
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.registry import MODELS

SIZE = 64


def build(cfg):
    torch.manual_seed(0)
    return MODELS.build(ConfigDict(cfg)).eval()


def frame(video, index, **meta):
    """A frame of noise and its data sample, as a loader collates them."""
    noise = torch.Generator().manual_seed(hash((video, index)) % 1000)
    image = torch.randint(0, 255, (3, SIZE, SIZE), generator=noise)
    meta = dict(
        dict(
            img_id=100 * video + index,
            img_shape=(SIZE, SIZE),
            ori_shape=(SIZE, SIZE),
            scale_factor=(1.0, 1.0),
            video_id=video,
            frame_id=index,
        ),
        **meta,
    )
    meta = {key: value for key, value in meta.items() if value is not None}
    return image, DetDataSample(metainfo=meta)


def batch(*frames):
    images, samples = zip(*frames, strict=True)
    return dict(inputs=list(images), data_samples=list(samples))


@torch.no_grad()
def run(model, *batches):
    """Predictions by image id, and how many images the backbone saw."""
    seen = []
    handle = model.backbone.register_forward_hook(
        lambda module, inputs, output: seen.append(len(inputs[0]))
    )
    found = {
        sample.img_id: sample.pred_instances
        for data in batches
        for sample in model.test_step(data)
    }
    handle.remove()
    return found, seen


def same(one, other):
    return all(
        torch.equal(one[key], other[key])
        for key in ('bboxes', 'scores', 'labels')
    )

"""A dataset of frames that are numbers, or images made up in memory."""

import random

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from mmengine.structures import BaseDataElement


@DATASETS.register_module(name='FramesOfTests', force=True)
class Frames(BaseDataset):
    """Videos of given lengths; ``samples`` are used as they are."""

    def __init__(self, lengths=(), samples=None, **options):
        self.samples = samples or [
            dict(video_id=f'v{video}', frame_id=frame)
            for video, length in enumerate(lengths)
            for frame in range(length)
        ]
        options.setdefault('pipeline', [Pack()])
        super().__init__(**options)

    def load_data_list(self):
        return [dict(sample) for sample in self.samples]

    def get_cat_ids(self, idx):
        return [idx % 3]


class Pack:
    """A packed sample that only names its frame."""

    def __call__(self, results):
        sample = BaseDataElement(metainfo=results)
        return dict(inputs=torch.zeros(1), data_samples=sample)


class Draws:
    """Draws from all three generators, beside any mechanism of mmcv."""

    def __call__(self, results):
        drawn = (
            random.random(),
            float(np.random.rand()),  # noqa: NPY002
            float(torch.rand(())),
        )
        sample = BaseDataElement(metainfo=results)
        return dict(inputs=torch.tensor(drawn), data_samples=sample)


class Gate:
    """Gives up the frames that ``keep`` refuses."""

    def __init__(self, keep):
        self.keep = keep

    def __call__(self, results):
        return results if self.keep(results) else None


def names(clip):
    """The (video, frame) of each frame of a clip."""
    samples = [frame['data_samples'] for frame in clip]
    return [(sample.video_id, sample.frame_id) for sample in samples]


def positions(dataset):
    """The positions that all clips of a dataset show, clip by clip."""
    return [[frame for _, frame in names(clip)] for clip in dataset]

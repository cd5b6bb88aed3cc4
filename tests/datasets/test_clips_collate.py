"""Clips become a stock batch, clip by clip."""

import pytest
from mmengine.registry import FUNCTIONS, DefaultScope

from mmskip.datasets import ClipDataset, clip_collate
from tests.datasets.clips import Frames, names


def test_clips_are_folded_clip_by_clip():
    dataset = ClipDataset(Frames([3, 3]), 3)
    batch = clip_collate([dataset[1], dataset[0]])
    assert sorted(batch) == ['data_samples', 'inputs']
    assert len(batch['inputs']) == 6
    samples = [dict(data_samples=sample) for sample in batch['data_samples']]
    assert names(samples) == [
        (video, frame) for video in ('v1', 'v0') for frame in range(3)
    ]


@pytest.mark.parametrize('scope', ['mmengine', 'mmdet', 'mmpose'])
def test_it_is_found_from_any_scope(scope):
    with DefaultScope.overwrite_default_scope(scope):
        assert FUNCTIONS.get('mmskip.clip_collate') is clip_collate


@pytest.mark.parametrize(
    ('batch', 'got'),
    [
        ([dict(inputs=0, data_samples=0)], 'got dict'),
        ([[]], 'got list'),
        ([[dict(inputs=0)], [1]], 'got list'),
        ([None], 'got NoneType'),
    ],
)
def test_a_batch_of_other_things_is_told(batch, got):
    with pytest.raises(TypeError, match=f'{got}; wrap the dataset'):
        clip_collate(batch)


def test_clips_of_different_lengths_are_told():
    frame = dict(inputs=0)
    with pytest.raises(ValueError, match=r'one length, got \[1, 2\]'):
        clip_collate([[frame], [frame, frame]])
    with pytest.raises(ValueError, match='got no clip'):
        clip_collate([])

"""Whole videos per rank, frames in order, every sample once."""

import random
from types import SimpleNamespace

import pytest
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from mmengine.registry import DATA_SAMPLERS

from mmskip.datasets import VideoOrderSampler
from mmskip.datasets import videos as video_order_sampler
from mmskip.datasets.videos import share_videos


class Frames(BaseDataset):
    """A dataset of given samples."""

    def __init__(self, samples):
        self.samples = samples
        super().__init__(pipeline=[])

    def load_data_list(self):
        return [dict(s) for s in self.samples]


def videos(*lengths, first=0):
    return [
        dict(video_id=f'v{first + v}', frame_id=f)
        for v, length in enumerate(lengths)
        for f in range(length)
    ]


def per_rank(dataset, world_size, monkeypatch, **options):
    """What the sampler of every rank gives."""
    found = []
    for rank in range(world_size):
        monkeypatch.setattr(
            video_order_sampler,
            'get_dist_info',
            lambda rank=rank: (rank, world_size),
        )
        sampler = VideoOrderSampler(dataset, seed=1, **options)
        assert len(sampler) == len(list(sampler))
        found.append(list(sampler))
    return found


@pytest.mark.parametrize('world_size', [1, 2, 3, 4])
def test_every_sample_once_whole_videos_frames_in_order(
    world_size, monkeypatch
):
    samples = videos(5, 1, 7, 3, 4, 2)
    random.Random(0).shuffle(samples)
    found = per_rank(Frames(samples), world_size, monkeypatch)
    assert sorted(i for rank in found for i in rank) == list(range(22))
    homes = {}
    for rank, indices in enumerate(found):
        runs = []
        for index in indices:
            video = samples[index]['video_id']
            assert homes.setdefault(video, rank) == rank
            if not runs or runs[-1] != video:
                runs.append(video)
        assert len(runs) == len(set(runs))
        for video in runs:
            frames = [
                samples[i]['frame_id']
                for i in indices
                if samples[i]['video_id'] == video
            ]
            assert frames == sorted(frames)


def test_one_rank_keeps_the_order_of_an_ordered_dataset(monkeypatch):
    dataset = Frames(videos(3, 1, 2))
    assert per_rank(dataset, 1, monkeypatch) == [list(range(6))]


def test_frames_are_balanced_over_ranks(monkeypatch):
    dataset = Frames(videos(10, 9, 8, 7, 6))
    found = per_rank(dataset, 2, monkeypatch)
    # Longest first: 10 | 9, then 8 to the second, 7 and 6 to the first.
    assert [len(indices) for indices in found] == [23, 17]
    assert share_videos({'a': [0] * 4, 'b': [0] * 2, 'c': [0] * 2}, 2) == [
        ['a'],
        ['b', 'c'],
    ]


def test_it_is_deterministic(monkeypatch):
    dataset = Frames(videos(2, 2, 2, 2))
    once = per_rank(dataset, 3, monkeypatch)
    assert once == per_rank(dataset, 3, monkeypatch)


def test_ranks_without_a_video_have_nothing_and_one_warning(monkeypatch):
    dataset = Frames(videos(3, 2))
    with pytest.warns(UserWarning, match='4 ranks share 2 videos') as record:
        found = per_rank(dataset, 4, monkeypatch)
    assert found == [[0, 1, 2], [3, 4], [], []]
    assert len(record) == 1


def test_unrelated_images_keep_their_order_and_are_shared(monkeypatch):
    """COCO's images lie in one folder, and are no video."""
    samples = [dict(img_path=f'val2017/{n}.jpg') for n in (7, 3, 9, 1, 5)]
    assert per_rank(Frames(samples), 1, monkeypatch) == [[0, 1, 2, 3, 4]]
    assert per_rank(Frames(samples), 2, monkeypatch) == [[0, 2, 4], [1, 3]]


def test_files_of_a_folder_are_frames_if_the_key_says_so(monkeypatch):
    samples = [
        dict(img_path=f'root/{v}/{f}.jpg') for v in 'ab' for f in (1, 10, 2)
    ]
    found = per_rank(Frames(samples), 1, monkeypatch, video_key='img_path')
    assert found == [[0, 2, 1, 3, 5, 4]]


def test_concatenated_datasets_are_seen_through(monkeypatch):
    parts = [Frames(videos(2, 3)), Frames(videos(4, first=2))]
    found = per_rank(ConcatDataset(parts), 2, monkeypatch)
    assert found == [[5, 6, 7, 8], [0, 1, 2, 3, 4]]


@pytest.mark.parametrize(
    'dataset',
    [
        RepeatDataset(Frames(videos(2)), 2),
        ConcatDataset([Frames(videos(2)), Frames(videos(2))]),
    ],
)
def test_a_frame_that_comes_twice_is_refused(dataset):
    with pytest.raises(ValueError, match="'v0' once, got frame_id=0 in the"):
        VideoOrderSampler(dataset)


def test_it_replaces_a_default_sampler_of_an_inherited_config():
    cfg = dict(type='mmskip.VideoOrderSampler', shuffle=False, round_up=False)
    sampler = DATA_SAMPLERS.build(
        cfg, default_args=dict(dataset=Frames(videos(2)), seed=None)
    )
    assert list(sampler) == [0, 1]


@pytest.mark.parametrize(
    ('dataset', 'options', 'error', 'message'),
    [
        (Frames(videos(1)), dict(shuffle=True), ValueError, 'shuffle=False'),
        (SimpleNamespace(), {}, TypeError, 'get_data_info'),
    ],
)
def test_what_it_cannot_do_is_refused(dataset, options, error, message):
    with pytest.raises(error, match=message):
        VideoOrderSampler(dataset, **options)

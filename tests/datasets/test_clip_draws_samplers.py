"""What a clip shows follows from the seed alone."""

import pickle

import mmengine.dataset.sampler as engine_sampler
import pytest
from mmengine.dataset import worker_init_fn
from mmengine.registry import DATA_SAMPLERS
from mmengine.runner import Runner

from mmskip.datasets import AllWindows, ClipDataset, ClipSampler, RandomStart
from mmskip.datasets.clip_draws import ClipIndex
from tests.datasets.clips import Draws, Frames


def clips(pipeline=None):
    return ClipDataset(
        Frames([5, 9, 7, 8, 6, 9], pipeline=pipeline or [Draws()]),
        2,
        windows=dict(type='RandomStart', clips_per_video=2),
    )


def load(num_workers, epochs=(0, 1), seed=3, kind='mmskip.ClipSampler'):
    """Epochs of batches: what was drawn, from which frames."""
    loader = Runner.build_dataloader(
        dict(
            dataset=clips(),
            batch_size=2,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            sampler=dict(type=kind, shuffle=True),
            collate_fn=dict(type='mmskip.clip_collate'),
        ),
        seed=seed,
    )
    result = []
    for epoch in epochs:
        loader.sampler.set_epoch(epoch)
        result.append([shown(batch) for batch in loader])
    return result


def shown(batch):
    return [
        (tuple(drawn.tolist()), sample.video_id, sample.frame_id)
        for drawn, sample in zip(*batch.values(), strict=True)
    ]


@pytest.mark.parametrize('num_workers', [1, 2])
def test_the_number_of_workers_does_not_matter(num_workers):
    assert load(num_workers) == load(0)


def test_epochs_and_seeds_differ_and_an_epoch_can_be_resumed():
    first, second = load(0)
    drawn = [
        {image for b in epoch for image in b} for epoch in (first, second)
    ]
    assert not drawn[0] & drawn[1]
    assert load(0, epochs=[1]) == [second]
    assert load(0, epochs=[0], seed=4) != [first]


def test_two_frames_of_a_clip_share_draws_and_clips_do_not():
    (epoch,) = load(0, epochs=[0])
    pairs = [(b[i], b[i + 1]) for b in epoch for i in (0, 2)]
    assert len(pairs) == 12
    assert all(a[:2] == b[:2] and a[2] + 1 == b[2] for a, b in pairs)
    assert len({a[0] for a, _ in pairs}) == 12


def test_stock_samplers_are_reproducible_by_the_seed_of_the_worker():
    dataset = clips()
    seen = []
    for _ in range(2):
        worker_init_fn(0, num_workers=1, rank=0, seed=5)
        seen.append([dataset[i][0]['inputs'].tolist() for i in range(4)])
    assert seen[0] == seen[1]
    worker_init_fn(1, num_workers=2, rank=0, seed=5)
    assert dataset[0][0]['inputs'].tolist() != seen[0][0]


@pytest.mark.parametrize('world_size', [2, 3, 5])
def test_ranks_share_the_clips_of_one_rank(world_size, monkeypatch):
    def indices(rank, world_size):
        monkeypatch.setattr(
            engine_sampler, 'get_dist_info', lambda: (rank, world_size)
        )
        sampler = ClipSampler(dataset, seed=7, round_up=True)
        sampler.set_epoch(2)
        return [(int(index), index.seed) for index in sampler]

    dataset = clips()
    whole = indices(0, 1)
    ranks = [indices(rank, world_size) for rank in range(world_size)]
    merged = [pair for turn in zip(*ranks, strict=True) for pair in turn]
    assert merged[: len(whole)] == whole
    # What rounding up repeats is shown with other draws.
    assert len(set(merged)) == len(merged)


def test_the_index_is_an_int_that_keeps_its_seed_in_pickles():
    index = pickle.loads(pickle.dumps(ClipIndex(4, seed=9)))
    assert (index, index.seed, [*range(9)][index]) == (4, 9, 4)


def test_the_sampler_is_built_from_a_config():
    cfg = dict(type='mmskip.ClipSampler', shuffle=False)
    sampler = DATA_SAMPLERS.build(cfg, default_args=dict(dataset=clips()))
    assert list(sampler) == list(range(12))


@pytest.mark.parametrize(
    ('windows', 'num_starts', 'expected'),
    [
        (AllWindows(), 3, [range(1), range(1, 2), range(2, 3)]),
        (AllWindows(2), 4, [range(1), range(2, 3), range(3, 4)]),
        (AllWindows(2), 0, []),
        (RandomStart(), 5, [range(5)]),
        (RandomStart(2), 1, [range(1), range(1)]),
        (RandomStart(2), 0, []),
    ],
)
def test_windows(windows, num_starts, expected):
    assert windows(num_starts) == expected


@pytest.mark.parametrize('value', [0, -1, 1.5, True, None])
def test_numbers_of_clips_are_checked(value):
    with pytest.raises(ValueError, match='expected clips_per_video'):
        RandomStart(value)

"""Clips of one video, in order, padded by rule; bad input is told."""

import copy
import pickle

import pytest
import torch
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmengine.registry import DATASETS, DefaultScope

from mmskip.datasets import ClipDataset
from tests.datasets.clips import Draws, Frames, Gate, Pack, names, positions


@pytest.mark.parametrize('num_frames', [1, 3])
@pytest.mark.parametrize('step', [1, 2, 3])
def test_all_windows_show_every_frame(num_frames, step):
    step = min(step, num_frames)
    dataset = ClipDataset(
        Frames([7, 3, 4]),
        num_frames,
        windows=dict(type='AllWindows', step=step),
    )
    shown = {name for clip in dataset for name in names(clip)}
    assert shown == {
        (f'v{video}', frame)
        for video, length in enumerate([7, 3, 4])
        for frame in range(length)
    }


def test_a_clip_is_consecutive_frames_of_one_video():
    dataset = ClipDataset(Frames([5, 4]), 3)
    assert positions(dataset) == [
        [0, 1, 2],
        [1, 2, 3],
        [2, 3, 4],
        [0, 1, 2],
        [1, 2, 3],
    ]
    assert all(len({v for v, _ in names(clip)}) == 1 for clip in dataset)


def test_frames_are_ordered_by_frame_id():
    samples = [dict(video_id=0, frame_id=f) for f in (8, 0, 4, 2)]
    assert positions(ClipDataset(Frames(samples=samples), 4)) == [[0, 2, 4, 8]]


def test_without_frame_id_the_order_is_that_of_the_dataset():
    samples = [dict(video_id=0, place=p, frame_id=None) for p in (3, 1, 2)]
    dataset = ClipDataset(
        Frames(samples=samples, pipeline=[Draws()]), 3, frame_key='nothing'
    )
    assert [f['data_samples'].place for f in dataset[0]] == [3, 1, 2]


def test_the_stride_leaves_frames_out():
    dataset = ClipDataset(Frames([6]), 2, stride=3)
    assert positions(dataset) == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize(
    ('padding', 'expected'),
    [
        ('repeat', [[0, 1, 1, 1], [0, 1, 2, 3]]),
        ('loop', [[0, 1, 0, 1], [0, 1, 2, 3]]),
        ('drop', [[0, 1, 2, 3]]),
    ],
)
def test_short_videos_follow_the_padding_rule(padding, expected):
    dataset = ClipDataset(Frames([2, 4]), 4, padding=padding)
    assert positions(dataset) == expected


def test_random_start_shows_each_video_and_reaches_every_start():
    dataset = ClipDataset(
        Frames([5, 2]),
        2,
        windows=dict(type='mmskip.RandomStart', clips_per_video=2),
    )
    assert len(dataset) == 4
    seen = [positions(dataset) for _ in range(40)]
    assert {epoch[0][0] for epoch in seen} == {0, 1, 2, 3}
    assert {tuple(epoch[3]) for epoch in seen} == {(0, 1)}


def test_videos_are_told_apart_by_key_keys_nested_key_or_folder():
    samples = [
        dict(
            img_path=f'data/{folder}/{frame}.jpg',
            frame_id=frame,
            clip=frame % 2,
            raw=dict(track=folder),
        )
        for folder in 'ab'
        for frame in range(4)
    ]

    def videos(**options):
        frames = Frames(samples=samples, pipeline=[Draws()])
        dataset = ClipDataset(frames, 2, **options)
        return [
            [frame['data_samples'].img_path[5:8] for frame in clip]
            for clip in dataset
        ]

    per_folder = [[f'{f}/{i}', f'{f}/{i + 1}'] for f in 'ab' for i in range(3)]
    assert videos(video_key='img_path') == per_folder
    assert videos(video_key='raw.track') == per_folder
    assert videos(video_key=('raw.track', 'clip')) == [
        ['a/0', 'a/2'],
        ['a/1', 'a/3'],
        ['b/0', 'b/2'],
        ['b/1', 'b/3'],
    ]


def test_loops_find_what_they_need():
    dataset = ClipDataset(
        dict(
            type='FramesOfTests',
            lengths=[4],
            metainfo=dict(classes=('car',)),
            lazy_init=True,
        ),
        2,
        lazy_init=True,
    )
    assert not dataset.dataset._fully_initialized
    dataset.full_init()
    assert len(dataset) == 3
    assert dataset.metainfo['classes'] == ('car',)
    info = dataset.get_data_info(-1)
    assert (info['frame_id'], info['sample_idx']) == (2, -1)
    assert dataset.get_cat_ids(1) == [1, 2]
    assert names(dataset[-1]) == names(dataset[2])
    with pytest.raises(IndexError, match=r'0\.\.2, got 3'):
        dataset[3]


@pytest.mark.parametrize('scope', ['mmengine', 'mmdet', 'mmpose'])
def test_it_is_built_from_a_config_in_any_scope(scope):
    pytest.importorskip(scope)
    with DefaultScope.overwrite_default_scope(scope):
        dataset = DATASETS.build(
            dict(
                type='mmskip.ClipDataset',
                num_frames=2,
                windows=dict(type='RandomStart'),
                dataset=dict(type='mmengine.FramesOfTests', lengths=[4, 3]),
            )
        )
    assert len(dataset) == 2


def test_concatenated_datasets_are_read_through():
    other = Frames(samples=[dict(video_id='w', frame_id=f) for f in range(3)])
    both = ConcatDataset([Frames([2]), Frames([0, 3]), other])
    dataset = ClipDataset(both, 3, padding='drop')
    assert [names(clip)[0][0] for clip in dataset] == ['v1', 'w']


def test_a_hook_may_replace_the_pipeline():
    dataset = ClipDataset(Frames([2]), 2)
    dataset.pipeline = lambda results: None
    dataset.dataset.test_mode = True
    with pytest.raises(RuntimeError, match='test mode'):
        dataset[0]


def test_it_survives_pickle_and_copy_after_use():
    dataset = ClipDataset(Frames([3]), 2)
    before = positions(dataset)
    assert positions(pickle.loads(pickle.dumps(dataset))) == before
    assert positions(copy.deepcopy(dataset)) == before


def test_a_clip_with_a_refused_frame_is_replaced_by_another():
    gate = Gate(lambda r: (r['video_id'], r['frame_id']) != ('v0', 2))
    dataset = ClipDataset(Frames([4, 3], pipeline=[gate, Pack()]), 2)
    for clip in dataset:
        assert ('v0', 2) not in names(clip)
        (first, a), (second, b) = names(clip)
        assert (first, a + 1) == (second, b)


def test_refused_clips_end_in_an_error():
    frames = Frames([4], pipeline=[Gate(lambda r: r['frame_id'] == 0)])
    with pytest.raises(RuntimeError, match='got None for 6 clips'):
        ClipDataset(frames, 2, max_refetch=5)[0]
    frames.test_mode = True
    with pytest.raises(RuntimeError, match=r'test mode.*frame of clip 1'):
        ClipDataset(frames, 2)[1]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(num_frames=0), 'num_frames to be a positive int, got 0'),
        (dict(stride=0), 'stride to be a positive int'),
        (dict(padding='reflect'), "'error', 'drop', 'repeat', 'loop'"),
        (dict(num_frames=4), "at least 4 .* got 3 in video 'v1'; set padding"),
        (dict(num_frames=3, stride=2), r'at least 5 frames.*got 4.*or stride'),
        (dict(num_frames=9, padding='drop'), 'got none from 2 videos'),
        (dict(windows='all'), r"dict\(type='AllWindows'.*got 'all'"),
        (dict(windows=dict(type='Nothing')), 'RandomStart'),
        (dict(windows=dict(type='AllWindows', step=0)), 'step to be a posi'),
        (
            dict(video_key='clip'),
            r"by 'clip', .* sample 0 .*'img_path'",
        ),
    ],
    ids=str,
)
def test_bad_options_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        ClipDataset(Frames([4, 3]), **{'num_frames': 2, **options})


def test_two_samples_at_one_position_are_told():
    samples = [dict(video_id=0, frame_id=f) for f in (0, 1, 1)]
    with pytest.raises(ValueError, match=r'frame_id=1 in the samples 1 and 2'):
        ClipDataset(Frames(samples=samples), 2)


@pytest.mark.parametrize(
    'dataset',
    [RepeatDataset(Frames([4]), 2), torch.utils.data.TensorDataset()],
    ids=['repeated', 'foreign'],
)
def test_datasets_without_frames_are_told(dataset):
    with pytest.raises(TypeError, match=r'prepare_data\(idx\).*wrapper'):
        ClipDataset(dataset, 2)

"""Videos in a dataset, and where an order of samples leaves them."""

import random

import pytest
from mmengine.dataset import BaseDataset

from mmskip.datasets.videos import Alone, find_jump, group_frames


class Frames(BaseDataset):
    """A dataset of given samples."""

    def __init__(self, samples):
        self.samples = samples
        super().__init__(pipeline=[])

    def load_data_list(self):
        return [dict(s) for s in self.samples]


def group(samples, **options):
    return group_frames(Frames(samples), **options)


@pytest.mark.parametrize(
    'text',
    [int, str, 'img{}.jpg'.format],
    ids=['number', 'text', 'name'],
)
def test_frames_are_in_natural_order(text):
    frames = random.Random(0).sample(range(1, 120), 119)
    samples = [dict(video_id='a', frame_id=text(f)) for f in frames]

    (found,) = group(samples).values()

    assert [frames[i] for i in found] == list(range(1, 120))


def test_files_of_a_folder_are_in_natural_order_without_a_frame_id():
    samples = [dict(img_path=f'a/{frame}.jpg') for frame in (1, 10, 11, 2)]

    assert group(samples, video_key='img_path') == {'a': [0, 3, 1, 2]}


def test_without_a_position_the_order_is_that_of_the_dataset():
    samples = [
        dict(video_id='a', frame_id=2),
        dict(video_id='a'),
        dict(video_id='b', frame_id=2),
        dict(video_id='b', frame_id=1),
    ]

    assert group(samples) == {'a': [0, 1], 'b': [3, 2]}


@pytest.mark.parametrize(
    ('samples', 'key'),
    [
        ([dict(img_path=f'{v}/{f}.jpg') for v in 'ab' for f in '01'], 'img_p'),
        ([dict(frame_dir=v, frame_id=f) for v in 'ab' for f in (0, 1)], 'x'),
        ([dict(clip=v, filename='x') for v in 'ab' for _ in (0, 1)], 'clip'),
    ],
)
def test_videos_are_told_by_a_key_a_folder_or_a_file(samples, key):
    key = 'img_path' if key == 'img_p' else key

    assert group(samples, video_key=key) == {'a': [0, 1], 'b': [2, 3]}


def test_samples_that_tell_no_video_are_alone():
    samples = [dict(img_path=f'val2017/{frame}.jpg') for frame in range(2)]

    found = group([*samples, dict(video_id=7), *samples])

    assert found == {
        Alone(0): [0], Alone(1): [1], 7: [2], Alone(3): [3], Alone(4): [4]
    }  # fmt: skip


VIDEOS = {'a': [0, 1, 2], 'b': [5, 4], Alone(3): [3]}


@pytest.mark.parametrize(
    'indices',
    [[], [0, 1, 2], [5, 4, 3, 0, 1, 2], [0, 1, 2, 5, 4, 0, 1, 2]],
    ids=str,
)
def test_whole_videos_in_order_have_no_jump(indices):
    assert find_jump(indices, VIDEOS) is None


@pytest.mark.parametrize(
    ('indices', 'jump'),
    [
        ([0, 2, 1], ('a', 1, ('a', 2))),
        ([0, 1, 5, 4], ('a', 2, ('b', 0))),
        ([1, 2], ('a', 0, ('a', 1))),
        ([4, 5], ('b', 0, ('b', 1))),
        ([5, 4, 0, 1], ('a', 2, None)),
        ([0, 1, 2, 0, 1, 2], ('a', 0, ('a', 0))),
        ([0, 0], ('a', 1, ('a', 0))),
        ([3, 3], (Alone(3), 0, (Alone(3), 0))),
    ],
    ids=str,
)
def test_the_first_jump_is_found(indices, jump):
    assert find_jump(indices, VIDEOS) == jump


def test_every_order_but_that_of_whole_videos_jumps():
    videos = {'a': [0, 1, 2], 'b': [3, 4]}
    good = {(0, 1, 2, 3, 4), (3, 4, 0, 1, 2)}
    draw = random.Random(0)
    orders = {tuple(draw.sample(range(5), 5)) for _ in range(600)}
    assert good < orders
    assert len(orders) > 100

    assert {o for o in orders if find_jump(o, videos) is None} == good


def test_a_frame_that_comes_twice_is_refused():
    samples = [dict(video_id=0, frame_id=f) for f in (0, 1, 1)]
    with pytest.raises(ValueError, match=r'frame_id=1 in the samples 1 and 2'):
        group(samples)

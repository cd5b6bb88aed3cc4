import random

import pytest

from mmskip.datasets.videos import (
    describe_keys,
    find_position,
    find_video,
    look_up,
    natural_key,
)

SAMPLE = dict(
    img_path='data/a/1.jpg', video=7, raw=dict(track=3, scene=0), empty=None
)


def test_dots_lead_into_dicts():
    assert look_up(SAMPLE, 'raw.track') == 3
    assert look_up(SAMPLE, 'raw.none') is None
    assert look_up(SAMPLE, 'video.track') is None


@pytest.mark.parametrize(
    ('key', 'found'),
    [
        ('video', 7),
        (['video'], 7),
        ('raw.scene', 0),
        (('img_path', 'raw.track'), ('data/a', 3)),
        ('img_path', 'data/a'),
        # A folder may hold unrelated images: it is not taken unasked.
        ('none', None),
        (('none', 'empty'), None),
        # A person of an unknown video would be mixed up with others.
        (('video', 'none'), None),
    ],
)
def test_videos_and_tracks_are_found(key, found):
    assert find_video(SAMPLE, key) == found


def test_a_folder_or_a_file_of_mmaction_is_a_video():
    assert find_video(dict(SAMPLE, filename='b.mp4'), 'video_id') == 'b.mp4'
    assert find_video(dict(frame_dir='b', filename='c'), 'video_id') == 'b'
    assert find_video({}, 'video_id') is None


def test_the_folder_is_that_of_the_first_of_several_images():
    assert find_video(dict(img_path=['x/1.jpg']), 'img_path') == 'x'
    assert find_video(dict(img_path='1.jpg'), 'img_path') is None


@pytest.mark.parametrize(
    ('key', 'frame_key', 'found'),
    [
        ('video', 'raw.track', 3),
        ('video', 'frame_id', None),
        ('img_path', 'frame_id', 'data/a/1.jpg'),
        ('img_path', 'raw.track', 3),
        ('video', 'img_path', 'data/a/1.jpg'),
    ],
)
def test_names_of_files_are_positions_where_the_folder_is_the_video(
    key, frame_key, found
):
    assert find_position(SAMPLE, key, frame_key) == found


@pytest.mark.parametrize(
    'values',
    [
        [1, 2, 10, 11],
        ['1', '2', '10', '11'],
        ['img2.jpg', 'img10.jpg', 'img10_2.jpg', 'IMG11.jpg'],
        ['a/00009.png', 'a/00010.png', 'a/100000.png'],
        [0, '1', 2.5, '10'],
    ],
    ids=str,
)
def test_positions_are_in_natural_order(values):
    mixed = random.Random(0).sample(values, len(values))
    assert sorted(mixed, key=natural_key) == values


def test_messages_name_the_keys():
    assert describe_keys('a') == "'a'"
    assert describe_keys(('a', 'b')) == "'a' and 'b'"

"""Videos and folders of frames on disk."""

import pytest

from mmskip.datasets.action_lists import Medium, index_media


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


@pytest.mark.parametrize(
    ('path', 'names'),
    [
        ('v_a-b_c.mp4', ['v_a-b_c', 'a-b_c']),
        ('x/y/a.webm', ['a']),
        ('abc_000010_000020.mp4', ['abc_000010_000020', 'abc']),
        ('video_test_0000001.mp4', ['video_test_0000001']),
    ],
)
def test_videos_are_found_by_every_name_in_use(tmp_path, path, names):
    touch(tmp_path, path, 'readme.txt')
    assert index_media(tmp_path) == dict.fromkeys(names, Medium(path, None))


def test_the_name_on_disk_wins(tmp_path):
    touch(tmp_path, 'v_a.mp4', 'a.mp4')
    found = index_media(tmp_path)
    assert found['a'].path == 'a.mp4'
    assert found['v_a'].path == 'v_a.mp4'


def test_frames_are_counted(tmp_path):
    touch(tmp_path, *(f'd/v_a/image_{n:05d}.jpg' for n in (1, 2, 3)))
    found = index_media(tmp_path, rawframes=True)
    assert found['a'] == Medium('d/v_a', 3)


@pytest.mark.parametrize('numbers', [(0, 1, 2), (1, 3)])
def test_gaps_between_frames_are_refused(tmp_path, numbers):
    touch(tmp_path, *(f'a/img_{n:05d}.jpg' for n in numbers))
    with pytest.raises(ValueError, match='numbered from 1 without gaps'):
        index_media(tmp_path, rawframes=True)


def test_white_space_is_refused(tmp_path):
    touch(tmp_path, 'playing guitar/a.mp4')
    with pytest.raises(ValueError, match='without white space'):
        index_media(tmp_path)


def test_one_of_two_equal_names_is_used_and_said_so(tmp_path):
    touch(tmp_path, 'x/a.mp4', 'y/a.mp4')
    with pytest.warns(UserWarning, match=r'x/a.mp4 is used'):
        assert index_media(tmp_path)['a'].path == 'x/a.mp4'


def test_nothing_to_be_found_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r'found none; .* with --rawframes'):
        index_media(tmp_path)
    with pytest.raises(FileNotFoundError, match='expected the folder'):
        index_media(tmp_path / 'no')


@pytest.mark.parametrize('rawframes', [False, True])
def test_by_path_names_shared_by_folders_are_different_videos(
    tmp_path, rawframes
):
    end = '/img_00001.jpg' if rawframes else '.mp4'
    touch(tmp_path, f'a/v_x.y{end}', f'b/v_x.y{end}')
    found = index_media(tmp_path, rawframes, by_path=True)
    assert set(found) == {'a/v_x.y', 'b/v_x.y'}
    assert found['a/v_x.y'].path == ('a/v_x.y' if rawframes else 'a/v_x.y.mp4')

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
    with pytest.warns(UserWarning, match=r'1 videos .*x/a.mp4 is used'):
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


@pytest.mark.parametrize('rawframes', [False, True])
def test_links_in_circles_are_followed_once(tmp_path, rawframes):
    """Two links to the root make 2^n paths of depth n."""
    end = '/img_00001.jpg' if rawframes else '.mp4'
    touch(tmp_path, f'a/x{end}', f'b/y{end}')
    for folder in ('a', 'b'):
        for name in ('up', 'round'):
            (tmp_path / folder / name).symlink_to(tmp_path)
    with pytest.warns(UserWarning, match=r'4 folders are links .*a/round'):
        found = index_media(tmp_path, rawframes)
    tail = '' if rawframes else '.mp4'
    assert {m.path for m in found.values()} == {f'a/x{tail}', f'b/y{tail}'}


@pytest.mark.parametrize('rawframes', [False, True])
def test_links_to_other_disks_are_followed(tmp_path, rawframes):
    end = '/img_00001.jpg' if rawframes else '.mp4'
    touch(tmp_path, f'disk/sub/x{end}', 'root/readme.txt')
    (tmp_path / 'root/linked').symlink_to(tmp_path / 'disk')
    found = index_media(tmp_path / 'root', rawframes)
    assert found['x'].path.startswith('linked/sub/x')


def test_of_a_folder_and_a_link_to_it_the_folder_is_listed(tmp_path):
    touch(tmp_path, 'z/x/img_00001.jpg')
    (tmp_path / 'a').symlink_to(tmp_path / 'z')
    with pytest.warns(UserWarning, match='1 folders are links'):
        found = index_media(tmp_path, rawframes=True, by_path=True)
    assert list(found) == ['z/x']

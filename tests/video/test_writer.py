import itertools
import os
import resource
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest

from mmskip.apis import VideoWriter
from mmskip.reading import InputError
from mmskip.video.writer import CONTAINERS
from tests.apis.fakes import noise_frames, read_video


def times_of(path):
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def write_a_second(path):
    with VideoWriter(path, (64, 48), 25) as writer:
        for frame in noise_frames(25):
            writer.write(frame)


def write_for_good(writer):
    for frame in itertools.cycle(noise_frames(25)):
        writer.write(frame)


def run_script(name, *args):
    command = [sys.executable, Path(__file__).with_name(name), *args]
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    return subprocess.run(
        command, check=False, capture_output=True, text=True, env=env
    )


@pytest.mark.parametrize('suffix', CONTAINERS)
def test_each_container_can_be_written_and_read(tmp_path, suffix):
    path = tmp_path / 'new folder' / f'a{suffix}'
    with VideoWriter(path, (64, 48), 25) as writer:
        for frame in noise_frames(3):
            writer.write(frame)
    assert writer.path == path
    assert [f.shape for f in read_video(path)] == [(48, 64, 3)] * 3


def test_an_unknown_suffix_says_which_are_known(tmp_path):
    with pytest.raises(InputError, match=r'\.avi, \.mkv, \.mov, \.mp4'):
        VideoWriter(tmp_path / 'a.gif', (64, 48), 25)


def test_a_folder_is_no_video(tmp_path):
    with pytest.raises(InputError, match='got folder'):
        VideoWriter(tmp_path, (64, 48), 25)


def test_frames_of_another_size_are_rescaled_with_one_warning(tmp_path):
    warnings = []
    path = tmp_path / 'a.avi'
    with VideoWriter(path, (64, 48), 25, warnings.append) as writer:
        for frame in noise_frames(1) + noise_frames(2, (32, 40)):
            writer.write(frame)
    assert [f.shape for f in read_video(path)] == [(48, 64, 3)] * 3
    assert len(warnings) == 1
    assert '32x40' in warnings[0]
    assert '64x48' in warnings[0]


def test_the_file_is_playable_after_an_error(tmp_path):
    path = tmp_path / 'a.mp4'
    with suppress(KeyboardInterrupt), VideoWriter(path, (64, 48), 25) as video:
        video.write(noise_frames(1)[0])
        raise KeyboardInterrupt
    assert len(read_video(path)) == 1


def test_a_video_without_frames_leaves_no_file(tmp_path):
    VideoWriter(tmp_path / 'a.mp4', (64, 48), 25).close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('size', [(129, 63), (64, 63), (129, 48)])
@pytest.mark.parametrize('suffix', CONTAINERS)
def test_odd_sizes_are_kept(tmp_path, suffix, size):
    path = tmp_path / f'a{suffix}'
    with VideoWriter(path, size, 25) as writer:
        writer.write(noise_frames(1, size)[0])
    assert [f.shape for f in read_video(path)] == [(size[1], size[0], 3)]


def test_colours_come_back(tmp_path):
    image = np.empty((48, 64, 3), np.uint8)
    image[:, :32], image[:, 32:] = (200, 40, 90), (20, 180, 240)
    with VideoWriter(tmp_path / 'a.mp4', (64, 48), 25) as writer:
        writer.write(image)
    (found,) = read_video(tmp_path / 'a.mp4')
    assert np.abs(found[:, 4:28].astype(int) - image[:, 4:28]).max() < 8
    assert np.abs(found[:, 36:60].astype(int) - image[:, 36:60]).max() < 8


def test_an_image_may_be_changed_after_it_was_written(tmp_path):
    image = np.full((48, 64, 3), 200, np.uint8)
    with VideoWriter(tmp_path / 'a.mp4', (64, 48), 25) as writer:
        for _ in range(3):
            image[:] = 200
            writer.write(image)
            image[:] = 0
    assert all(f.mean() > 190 for f in read_video(tmp_path / 'a.mp4'))


def test_what_draws_a_frame_runs_beside_the_caller(tmp_path):
    threads = []

    def draw():
        threads.append(threading.current_thread())
        return noise_frames(1)[0]

    with VideoWriter(tmp_path / 'a.mp4', (64, 48), 25) as writer:
        writer.write(draw)
    assert threads != [threading.current_thread()]
    assert len(read_video(tmp_path / 'a.mp4')) == 1


def test_an_error_of_drawing_stays_what_it_is(tmp_path):
    def draw():
        raise ZeroDivisionError

    writer = VideoWriter(tmp_path / 'a.mp4', (64, 48), 25)
    writer.write(draw)
    with pytest.raises(ZeroDivisionError):
        writer.close()


@pytest.mark.parametrize('suffix', ['.mp4', '.mkv', '.mov'])
def test_frames_keep_their_times(tmp_path, suffix):
    path = tmp_path / f'a{suffix}'
    with VideoWriter(path, (64, 48), 25) as writer:
        # Seconds since 1970, with a stop of two hours.
        for time in (0, 0.05, 0.25, 0.3, 7200):
            writer.write(noise_frames(1)[0], 1.7e9 + time)
    found = times_of(path)
    assert found == pytest.approx([0, 0.05, 0.25, 0.3, 7200], abs=0.002)


def test_a_clock_that_is_set_back_goes_on_one_frame_later(tmp_path):
    path = tmp_path / 'a.mp4'
    with VideoWriter(path, (64, 48), 25) as writer:
        for time in (5, 6, 2, 3, 3, None, 4):
            writer.write(noise_frames(1)[0], time)
    expected = [0, 1, 1.04, 2.04, 2.08, 2.12, 3.12]
    assert times_of(path) == pytest.approx(expected, abs=0.001)


def test_without_times_the_rate_is_constant(tmp_path):
    path = tmp_path / 'a.mp4'
    with VideoWriter(path, (64, 48), 30000 / 1001) as writer:
        for frame in noise_frames(4):
            writer.write(frame)
    expected = [i * 1001 / 30000 for i in range(4)]
    assert times_of(path) == pytest.approx(expected, abs=1e-6)


def test_an_avi_has_one_rate(tmp_path):
    path = tmp_path / 'a.avi'
    with VideoWriter(path, (64, 48), 10) as writer:
        for time in (0, 5, 90000):
            writer.write(noise_frames(1)[0], time)
    first, second, third = times_of(path)
    assert second - first == pytest.approx(0.1)
    assert third - second == pytest.approx(0.1)


@pytest.mark.parametrize('name', ['a b.mp4', 'ü漢.mkv', 'c:d.mp4', '%20.avi'])
def test_any_name_will_do(tmp_path, name):
    with VideoWriter(tmp_path / name, (64, 48), 25) as writer:
        writer.write(noise_frames(1)[0])
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize('suffix', CONTAINERS)
def test_a_full_disk_is_noticed_within_a_second(tmp_path, suffix):
    path = tmp_path / f'a{suffix}'
    path.symlink_to('/dev/full')
    with pytest.raises(InputError, match='No space left on device'):
        write_a_second(path)


@pytest.fixture
def small_disk():
    """No file may grow beyond 100 kB, as if the disk was full then."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_a_disk_that_fills_up_is_noticed_on_the_way(tmp_path, small_disk):
    path = tmp_path / 'a.mp4'
    writer = VideoWriter(path, (64, 48), 25)
    with pytest.raises(InputError, match='File too large'):
        write_for_good(writer)
    # Less than a second is lost of what was written.
    assert writer.frames - 25 <= len(read_video(path)) <= writer.frames
    with pytest.raises(InputError, match='File too large'):
        writer.close()


def test_a_place_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(InputError, match=r'cannot write .*a\.mp4: expected'):
        VideoWriter(tmp_path / 'file' / 'a.mp4', (64, 48), 25)


def test_without_h264_it_is_mpeg4(tmp_path, monkeypatch):
    known = av.codecs_available - {'libx264'}
    monkeypatch.setattr(av, 'codecs_available', known)
    for size in ((64, 48), (129, 63)):
        path = tmp_path / f'{size[0]}.mp4'
        with VideoWriter(path, size, 25) as writer:
            for frame in noise_frames(3, size):
                writer.write(frame)
        with av.open(str(path)) as container:
            assert container.streams.video[0].codec_context.name == 'mpeg4'
        assert [f.shape[:2] for f in read_video(path)] == [size[::-1]] * 3


def test_closing_twice_is_closing_once(tmp_path):
    writer = VideoWriter(tmp_path / 'a.mp4', (64, 48), 25)
    writer.write(noise_frames(1)[0])
    writer.close()
    writer.close()
    assert len(read_video(tmp_path / 'a.mp4')) == 1


def test_a_killed_process_leaves_what_it_wrote(tmp_path):
    """`python tests/video/killed.py 20` does so twenty times."""
    done = run_script('killed.py', '4', tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count('lost') == 4

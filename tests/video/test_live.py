import os
import signal
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace

import cv2
import numpy as np
import pytest

from mmskip.reading import InputError
from mmskip.video import LiveOptions, LiveReader, open_reader
from mmskip.video.reader import DEFAULT_FPS
from tests.apis.fakes import noise_frames, static_frames
from tests.helpers.ports import free_port
from tests.video.rtsp import rtsp_camera
from tests.video.stalling import Faults, camera, stalling_camera
from tests.video.videos import write_frames

QUICK = LiveOptions(timeout=0.5, first_wait=0.05, longest_wait=0.1)


def grey_frames(count):
    """Frames whose grey tells their number."""
    return [np.full((48, 64, 3), 4 * n, np.uint8) for n in range(count)]


def collect(reader, count):
    frames = []
    for frame in reader:
        frames.append(frame)
        if len(frames) == count:
            break
    return frames


def test_a_slow_model_gets_the_newest_frame_and_drops_the_rest():
    with (
        camera(grey_frames(60), fps=50) as address,
        open_reader(address) as reader,
    ):
        assert isinstance(reader, LiveReader)
        assert reader.is_live
        ages, frames = [], []
        for frame in reader:
            ages.append(time.time() - frame.time)
            frames.append(frame)
            if len(frames) == 5:
                break
            time.sleep(0.2)
        numbers = [round(frame.image.mean() / 4) for frame in frames]
        # 0.2 s are 10 frames of the camera.
        steps = np.diff(numbers)
        assert (steps >= 5).all()
        assert max(ages) < 0.1
        indices = [frame.index for frame in frames]
        assert indices[0] < 5  # those that came while it was opened
        assert (np.diff(indices) == steps).all()
        assert reader.dropped == indices[-1] - 4
        assert not any(frame.restarts for frame in frames)


def test_every_frame_of_a_slow_camera_is_taken():
    with (
        camera(grey_frames(60), fps=20) as address,
        open_reader(address) as reader,
    ):
        collect(reader, 4)  # a few come at once when a camera is opened
        dropped = reader.dropped
        frames = collect(reader, 8)
        first = frames[0].index
        assert [frame.index - first for frame in frames] == list(range(8))
        assert (np.diff([frame.time for frame in frames]) > 0.02).all()
        assert reader.dropped == dropped


def test_frames_before_the_first_is_asked_for_are_not_dropped():
    with (
        camera(grey_frames(60), fps=50) as address,
        open_reader(address) as reader,
    ):
        time.sleep(0.3)
        (frame,) = collect(reader, 1)
        assert frame.index == 0
        assert reader.dropped == 0
        assert time.time() - frame.time < 0.1


def test_every_reconnect_is_followed_by_a_frame_that_restarts():
    warnings = []
    faults = Faults(drop_after=10, away=0.2)
    with (
        camera(grey_frames(60), 50, faults) as address,
        open_reader(address, warnings.append, QUICK) as reader,
    ):
        frames = []
        while reader.reconnects < 3:
            frames += collect(reader, 1)
    restarts = [frame for frame in frames if frame.restarts]
    assert len(restarts) == 3
    # Each connection begins with the first images.
    assert all(frame.image.mean() / 4 < 4 for frame in restarts)
    assert sum('is lost' in text for text in warnings) == 3
    assert sum('is back after' in text for text in warnings) == 3
    assert reader.cut_short is None


def test_a_restart_is_not_lost_with_a_dropped_frame():
    faults = Faults(drop_after=20)
    with (
        camera(grey_frames(60), 50, faults) as address,
        open_reader(address, str, QUICK) as reader,
    ):
        collect(reader, 1)
        time.sleep(0.7)
        (frame,) = collect(reader, 1)
        assert reader.dropped > 10
        assert frame.restarts


def test_a_camera_that_falls_silent_is_opened_again():
    warnings = []
    faults = Faults(stall_after=5)
    with (
        camera(grey_frames(60), 50, faults) as address,
        open_reader(address, warnings.append, QUICK) as reader,
    ):
        frames = collect(reader, 12)
    assert reader.reconnects >= 1
    assert any(frame.restarts for frame in frames)
    assert any('no data within the time-out' in text for text in warnings)


def test_a_source_that_does_not_come_back_is_given_up_if_asked():
    options = LiveOptions(0.3, 0.01, 0.02, max_reconnects=2)
    with (
        camera(grey_frames(9), 50, Faults(drop_after=5, away=60)) as address,
        open_reader(address, str, options) as reader,
    ):
        started = time.monotonic()
        assert len(list(reader)) >= 3
        assert time.monotonic() - started < 5
        assert 'stopped delivering' in reader.cut_short
        assert reader.poll(1) is None
        assert reader.ended


def test_attempts_come_ever_more_rarely():
    options = LiveOptions(first_wait=0.5, longest_wait=30)
    waits = [options.wait(failed) for failed in range(8)]
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert options.wait(10**6) == 30


def test_damaged_pictures_are_marked_and_counted():
    with (
        camera(noise_frames(20), 20, Faults(damage=4)) as address,
        open_reader(address, str) as reader,
    ):
        frames = collect(reader, 14)
    # Every fourth one, up to those that were dropped at the beginning.
    damaged = [frame.index for frame in frames if frame.damaged]
    assert set(np.diff(damaged)) == {4}
    assert reader.damaged == len(damaged) >= 2
    assert reader.unreadable == 0


def test_polling_does_not_wait():
    with (
        camera(grey_frames(60), fps=5) as address,
        open_reader(address) as reader,
    ):
        while reader.poll(0.1) is not None:
            pass  # a few frames come at once when a camera is opened
        started = time.monotonic()
        assert reader.poll() is None
        assert reader.poll(0.01) is None
        assert time.monotonic() - started < 0.1
        assert reader.poll(1) is not None


def test_memory_and_threads_do_not_grow_with_reconnects():
    faults = Faults(drop_after=10)
    options = LiveOptions(0.5, 0.001, 0.001)
    with (
        camera(noise_frames(3), 500, faults) as address,
        open_reader(address, str, options) as reader,
    ):
        collect(reader, 20)
        before = threading.active_count()
        collect(reader, 100)
        assert reader.reconnects > 5
        assert threading.active_count() <= before + 4


def test_a_camera_that_is_not_there_yet_is_waited_for_if_asked():
    port = free_port()
    options = replace(QUICK, waits=True)
    said = []
    address = f'http://127.0.0.1:{port}/'
    with open_reader(address, said.append, options) as reader:
        assert reader.poll(0.3) is None
        assert len(said) == 1
        assert 'trying to reconnect' in said[0]
        with camera(grey_frames(9), port=port):
            frame = reader.poll(5)
    assert frame.restarts
    assert reader.reconnects == 1


def test_a_wrong_address_is_refused_without_its_password():
    with pytest.raises(InputError, match='connection refused') as caught:
        open_reader('rtsp://admin:secret@127.0.0.1:1/stream')
    assert 'admin:***@127.0.0.1' in str(caught.value)
    assert 'secret' not in str(caught.value)


def test_a_camera_that_does_not_answer_is_refused():
    with (
        stalling_camera([]) as address,
        pytest.raises(InputError, match='no data within the time-out'),
    ):
        LiveReader(address, options=QUICK)


def let_go(path):
    """Open a pipe for those who still wait for a writer, if any."""
    with suppress(OSError):
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))


class FakeCamera:
    """Delivers three frames, then nothing."""

    def __init__(self, source):
        self.source = source
        self.left = 3

    def isOpened(self):  # noqa: N802
        return self.source == 0

    def get(self, _):
        return -1.0

    def read(self):
        time.sleep(0.02)
        self.left -= 1
        if self.left < 0:
            return False, None
        return True, np.zeros((4, 6, 3), dtype=np.uint8)

    def release(self):
        pass


def test_a_camera_by_number_is_opened_again_as_well(monkeypatch):
    monkeypatch.setattr(cv2, 'VideoCapture', FakeCamera)
    with open_reader('0', str, QUICK) as reader:
        frames = collect(reader, 7)
        assert (reader.name, reader.fps) == ('camera 0', DEFAULT_FPS)
        assert reader.num_frames is None
    assert sum(frame.restarts for frame in frames) >= 1


def test_a_missing_camera_is_refused(monkeypatch):
    monkeypatch.setattr(cv2, 'VideoCapture', FakeCamera)
    with pytest.raises(InputError, match='cannot open camera 3'):
        open_reader('3')


def test_a_named_pipe_is_read_and_waits_for_the_next_writer(tmp_path):
    video = write_frames(
        tmp_path / 'a.mkv', noise_frames(3), 'ffv1', 'bgr0'
    ).read_bytes()
    path = tmp_path / 'pipe'
    os.mkfifo(path)

    def write():
        for _ in range(2):
            path.write_bytes(video)
            time.sleep(0.3)

    writer = threading.Thread(target=write)
    writer.start()
    with open_reader(path, str, QUICK) as reader:
        frames = collect(reader, 2)
        while not frames[-1].restarts:
            frames += collect(reader, 1)
    writer.join()
    assert reader.is_live
    let_go(path)


def test_an_error_of_our_own_is_not_swallowed(monkeypatch):
    def fail(self, *_):
        raise RuntimeError('a bug')

    monkeypatch.setattr(LiveReader, '_arrive', fail)
    with (
        camera(static_frames(2)) as address,
        open_reader(address) as reader,
        pytest.raises(RuntimeError, match='a bug'),
    ):
        collect(reader, 1)


@contextmanager
def interrupted_within(seconds):
    """Press Ctrl-C after 0.3 s; it must leave the block so soon after it."""
    pressed = []

    def press():
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.3, press)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        yield
    assert time.monotonic() - pressed[0] < seconds


def test_ctrl_c_is_heard_while_a_camera_hangs():
    with stalling_camera(noise_frames(40)) as address:
        seen = []
        with interrupted_within(1), open_reader(address) as reader:
            for frame in reader:
                seen.append(frame.index)
        assert seen


def test_ctrl_c_is_heard_while_a_camera_does_not_open():
    with stalling_camera([]) as address, interrupted_within(1):
        open_reader(address)


def test_ctrl_c_is_heard_while_a_camera_is_away():
    faults = Faults(drop_after=3, away=60)
    options = LiveOptions(first_wait=30)
    with (
        camera(grey_frames(3), 50, faults) as address,
        interrupted_within(1),
        open_reader(address, str, options) as reader,
    ):
        for _ in reader:
            pass


def test_ctrl_c_is_heard_while_a_pipe_has_no_writer(tmp_path):
    path = tmp_path / 'pipe.avi'
    os.mkfifo(path)
    with interrupted_within(1):
        open_reader(path)
    let_go(path)


def test_a_camera_that_speaks_rtsp_is_read_and_opened_again():
    shown = [np.full((48, 64, 3), grey, np.uint8) for grey in (60, 200)]
    with rtsp_camera(shown[:1] * 20 + shown[1:] * 20, 25, [15]) as address:
        warnings = []
        patient = replace(QUICK, timeout=5.0)
        with open_reader(address, warnings.append, patient) as reader:
            assert isinstance(reader, LiveReader)
            frames = collect(reader, 25)

    assert frames[0].image.shape == (48, 64, 3)
    greys = [frame.image.mean() for frame in frames]
    assert all(min(abs(g - 60), abs(g - 200)) < 4 for g in greys)
    assert [frame.restarts for frame in frames].count(True) == 1
    assert reader.reconnects == 1
    times = [frame.time for frame in frames]
    assert times == sorted(times)

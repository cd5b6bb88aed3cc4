import os
import signal
import threading
import time
from contextlib import contextmanager

import cv2
import numpy as np
import pytest

from mmskip.apis import open_reader
from mmskip.reading import InputError
from mmskip.video.reader import DEFAULT_FPS
from tests.apis.fakes import damage_frame, noise_frames, write_video
from tests.video.stalling import stalling_camera


def collect(source):
    warnings = []
    with open_reader(source, warnings.append) as reader:
        indices = [frame.index for frame in reader]
    return reader, indices, warnings


def test_a_video_gives_its_frames_in_order_and_says_how_many(tmp_path):
    frames = noise_frames(7)
    path = write_video(tmp_path / 'a.avi', frames, fps=12)
    reader, indices, warnings = collect(path)
    assert (reader.num_frames, reader.fps) == (7, 12)
    assert indices == list(range(7))
    assert reader.cut_short is None
    assert not warnings
    assert reader.unreadable == 0


def test_reading_is_lazy(tmp_path):
    with open_reader(
        write_video(tmp_path / 'a.avi', noise_frames(5))
    ) as reader:
        frames = iter(reader)
        assert next(frames).index == 0
        assert next(frames).index == 1
        assert reader._capture.get(cv2.CAP_PROP_POS_FRAMES) == 2


def test_a_bad_frame_in_the_middle_is_skipped_and_named(tmp_path):
    path = write_video(tmp_path / 'a.avi', noise_frames(9))
    reader, indices, warnings = collect(damage_frame(path, 4))
    assert indices == [0, 1, 2, 3, 5, 6, 7, 8]
    assert reader.unreadable == 1
    assert len(warnings) == 1
    assert 'frame 4' in warnings[0]
    assert reader.cut_short is None


def test_a_truncated_file_gives_what_is_there_and_says_so(tmp_path):
    path = write_video(tmp_path / 'a.avi', noise_frames(20))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    reader, indices, _ = collect(path)
    assert 5 <= len(indices) < 15
    assert indices == list(range(len(indices)))
    assert 'announces 20 frames' in reader.cut_short
    assert f'after {len(indices)}' in reader.cut_short
    assert reader.unreadable == 0


@pytest.mark.parametrize('content', [b'', b'no video' * 100])
def test_an_unreadable_file_is_refused(tmp_path, content):
    path = tmp_path / 'a.mp4'
    path.write_bytes(content)
    with pytest.raises(InputError, match=r'cannot read .*a\.mp4 as a video'):
        open_reader(path)


def test_an_mp4_cut_off_before_its_index_is_refused(tmp_path):
    path = write_video(tmp_path / 'a.mp4', noise_frames(20), 'mp4v')
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match='truncated'):
        open_reader(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r'video not found: .*a\.mp4'):
        open_reader(tmp_path / 'a.mp4')


def test_a_video_without_frames_gives_none(tmp_path):
    path = tmp_path / 'a.avi'
    fourcc = cv2.VideoWriter_fourcc(*'MJPG')
    cv2.VideoWriter(str(path), fourcc, 25, (64, 48)).release()
    _, indices, _ = collect(path)
    assert indices == []


def test_a_folder_gives_its_images_in_natural_order(tmp_path):
    for number in (10, 9, 1):
        image = np.full((4, 6, 3), number, dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f'img{number}.png'), image)
    (tmp_path / 'notes.txt').write_text('not an image')
    with open_reader(tmp_path) as reader:
        frames = list(reader)
    assert [frame.image[0, 0, 0] for frame in frames] == [1, 9, 10]
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert (reader.num_frames, reader.fps) == (3, DEFAULT_FPS)


def test_a_damaged_image_is_skipped_and_named(tmp_path):
    for number in range(3):
        image = np.zeros((4, 6, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f'{number}.png'), image)
    (tmp_path / '1.png').write_bytes(b'broken')
    reader, indices, warnings = collect(tmp_path)
    assert indices == [0, 2]
    assert reader.unreadable == 1
    assert '1.png' in warnings[0]


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r'no image in folder .*\.jpg'):
        open_reader(tmp_path)


def test_images_keep_their_size_when_it_changes(tmp_path):
    for number, size in enumerate([(4, 6), (8, 6)]):
        image = np.zeros((*size, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f'{number}.png'), image)
    with open_reader(tmp_path) as reader:
        shapes = [frame.image.shape[:2] for frame in reader]
    assert shapes == [(4, 6), (8, 6)]


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
        self.left -= 1
        if self.left < 0:
            return False, None
        return True, np.zeros((4, 6, 3), dtype=np.uint8)

    def release(self):
        pass


def test_a_camera_that_goes_away_ends_the_stream_with_a_reason(monkeypatch):
    monkeypatch.setattr(cv2, 'VideoCapture', FakeCamera)
    reader, indices, _ = collect('0')
    assert indices == [0, 1, 2]
    assert reader.num_frames is None
    assert reader.fps == DEFAULT_FPS
    assert reader.cut_short == 'camera 0 stopped delivering at frame 3'


def test_a_missing_camera_is_refused(monkeypatch):
    monkeypatch.setattr(cv2, 'VideoCapture', FakeCamera)
    with pytest.raises(InputError, match='cannot open camera 3'):
        open_reader('3')


@contextmanager
def interrupted_within(seconds):
    """Send Ctrl-C after 0.3 s; it must leave the block so soon after it."""
    sent = []

    def send():
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.3, send)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        yield
    assert time.monotonic() - sent[0] < seconds


def test_ctrl_c_is_heard_while_a_camera_hangs():
    with stalling_camera(noise_frames(40)) as address:
        seen = []
        with interrupted_within(1), open_reader(address) as reader:
            for frame in reader:
                seen.append(frame.index)
        assert seen == list(range(40))


def test_ctrl_c_is_heard_while_a_camera_does_not_open():
    with stalling_camera([]) as address, interrupted_within(1):
        open_reader(address)


def test_ctrl_c_is_heard_while_a_pipe_has_no_writer(tmp_path):
    path = tmp_path / 'pipe.avi'
    os.mkfifo(path)
    with interrupted_within(1):
        open_reader(path)
    path.open('wb').close()  # lets go of the thread that waits

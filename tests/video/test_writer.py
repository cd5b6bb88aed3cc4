from contextlib import suppress

import cv2
import numpy as np
import pytest

from mmskip.apis import VideoWriter
from mmskip.reading import InputError
from mmskip.video.writer import CODECS
from tests.apis.fakes import noise_frames, read_video


@pytest.mark.parametrize('suffix', CODECS)
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


def refuse(monkeypatch, codecs):
    original = cv2.VideoWriter

    def open_some(path, fourcc, fps, size):
        if fourcc in [cv2.VideoWriter_fourcc(*codec) for codec in codecs]:
            return original()
        return original(path, fourcc, fps, size)

    open_some.fourcc = original
    monkeypatch.setattr(cv2, 'VideoWriter', open_some)


def test_without_the_codec_jpeg_images_are_written(tmp_path, monkeypatch):
    refuse(monkeypatch, ['mp4v'])
    warnings = []
    with VideoWriter(
        tmp_path / 'a.mp4', (64, 48), 25, warnings.append
    ) as writer:
        writer.write(np.zeros((48, 64, 3), dtype=np.uint8))
    assert writer.path == tmp_path / 'a.avi'
    assert len(read_video(writer.path)) == 1
    assert 'a.avi instead' in warnings[0]


def test_without_any_codec_it_says_so(tmp_path, monkeypatch):
    refuse(monkeypatch, ['mp4v', 'MJPG'])
    with pytest.raises(InputError, match=r'cannot write .*a\.mp4'):
        VideoWriter(tmp_path / 'a.mp4', (64, 48), 25)

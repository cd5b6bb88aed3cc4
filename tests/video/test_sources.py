"""Whatever may be named as a source, and what comes out of it."""

import http.server
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from mmskip.reading import InputError
from mmskip.video import local_path, open_reader
from tests.apis.fakes import noise_frames, write_video
from tests.video.videos import write_frames


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Serves files, from the middle as well."""

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        asked = self.headers.get('Range')
        start = int(asked.split('=')[1].split('-')[0]) if asked else 0
        self.server.starts.append(start)
        self.send_response(206 if asked else 200)
        self.send_header('Accept-Ranges', 'bytes')
        self.send_header('Content-Length', str(len(data) - start))
        self.send_header(
            'Content-Range', f'bytes {start}-{len(data) - 1}/{len(data)}'
        )
        self.end_headers()
        self.wfile.write(data[start:])

    def log_message(self, *_):
        pass


@contextmanager
def serving(folder):
    """Yield the address of a folder, and where reading has begun so far."""

    def handle(*args):
        return Ranges(*args, directory=str(folder))

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handle) as server:
        server.starts = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f'http://127.0.0.1:{server.server_port}', server.starts
        finally:
            server.shutdown()
            thread.join()


def test_a_file_on_a_server_is_read_though_its_index_is_at_the_end(tmp_path):
    frames = noise_frames(40, (256, 192))
    path = write_frames(tmp_path / 'a.mp4', frames)
    data = path.read_bytes()
    assert data.index(b'moov') > data.index(b'mdat')
    with serving(tmp_path) as (address, starts):
        with open_reader(f'{address}/a.mp4') as reader:
            assert not reader.is_live
            assert reader.num_frames == 40
            found = list(reader)
        assert max(starts) > len(data) // 2
    assert reader.cut_short is None
    assert all(
        np.array_equal(frame.image, image)
        for frame, image in zip(found, frames, strict=True)
    )


def test_a_file_that_a_server_does_not_have_is_refused(tmp_path):
    with (
        serving(tmp_path) as (address, _),
        pytest.raises(InputError, match=r'cannot open the stream .*404'),
    ):
        open_reader(f'{address}/a.mp4')


@pytest.mark.parametrize('name', ['ä ö 視頻.avi', 'a%20b.avi', 'a:b #1.avi'])
@pytest.mark.parametrize('is_address', [False, True])
def test_any_name_of_a_file_is_understood(tmp_path, name, is_address):
    path = write_video(tmp_path / 'a.avi', noise_frames(3))
    path = path.rename(tmp_path / name)
    source = path.as_uri() if is_address else str(path)
    with open_reader(source) as reader:
        assert len(list(reader)) == 3
        assert reader.name == str(path)
        assert not reader.is_live


def test_a_file_that_a_server_breaks_off_is_cut_short(tmp_path):
    path = write_frames(
        tmp_path / 'a.mp4',
        noise_frames(20, (256, 192)),
        container={'movflags': 'faststart'},
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with (
        serving(tmp_path) as (address, _),
        open_reader(f'{address}/a.mp4') as reader,
    ):
        frames = list(reader)
    assert 5 <= len(frames) <= 15
    assert f'{len(frames)}' in reader.cut_short


def test_a_folder_may_be_an_address(tmp_path):
    write_frames(tmp_path / 'a.png', noise_frames(1))
    with open_reader(tmp_path.as_uri()) as reader:
        assert len(list(reader)) == 1


def test_a_file_whose_name_is_a_number_is_no_camera(tmp_path, monkeypatch):
    write_video(tmp_path / 'a.avi', noise_frames(2)).rename(tmp_path / '0')
    monkeypatch.chdir(tmp_path)
    with open_reader('0') as reader:
        assert len(list(reader)) == 2


@pytest.mark.parametrize('source', [7, '7', '/dev/video7'])
def test_a_camera_is_named_by_its_number_or_device(source):
    with pytest.raises(InputError, match='cannot open camera 7'):
        open_reader(source)


@pytest.mark.parametrize('source', ['/dev/null', '', 'a' * 999])
def test_what_is_no_video_is_refused(source):
    with pytest.raises(InputError, match=r'not found|cannot read|no image'):
        open_reader(source)


@pytest.mark.parametrize(
    ('source', 'path'),
    [
        ('a.mp4', 'a.mp4'),
        ('/b/a.mp4', '/b/a.mp4'),
        (Path('7'), '7'),
        ('file:///b/a%20c.mp4', '/b/a c.mp4'),
        ('file://localhost/b/a.mp4', '/b/a.mp4'),
        ('file:a.mp4', 'a.mp4'),
        ('rtsp://camera/stream', None),
        ('https://server/a.mp4', None),
        ('0', None),
        (3, None),
    ],
)
def test_sources_on_this_machine_have_a_path(source, path):
    assert local_path(source) == (None if path is None else Path(path))

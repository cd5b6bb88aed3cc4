import os
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from mmengine.structures import BaseDataElement

from mmskip.apis import ResultVideo, stream_video
from mmskip.core import MacCount
from mmskip.reading import InputError
from mmskip.video import (
    FrameResult,
    ShowWindow,
    ShowWindows,
    check_outputs,
)
from mmskip.video import results as results_module
from tests.apis.fakes import read_video, static_frames, tiny_detector


def draw_nothing(image, prediction):
    return image


def results(count=3):
    return stream_video(tiny_detector(threshold=0.0), static_frames(count))


def result_at(time, mask=None):
    return FrameResult(
        *(0, static_frames(1)[0], BaseDataElement(), MacCount(1, 1, 1, 0)),
        *(mask, 0.0, time),
    )


def times_of(path):
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def test_the_video_shows_each_frame_tinted_where_it_was_computed(tmp_path):
    path = tmp_path / 'a.avi'
    with ResultVideo(path, 25, draw_nothing) as video:
        for result in results():
            video.write(result)
    assert video.path == path
    first, second, third = (f[24:].mean((0, 1)) for f in read_video(path))
    # The reference frame is tinted magenta, the others not at all.
    assert first[1] < second[1] - 20
    assert np.abs(second - third).max() < 2


@pytest.mark.parametrize(
    ('keep_times', 'expected'), [(True, [0, 0.3, 1]), (False, [0, 0.1, 0.2])]
)
def test_frames_keep_their_times_unless_a_rate_is_wanted(
    tmp_path, keep_times, expected
):
    path = tmp_path / 'a.mp4'
    with ResultVideo(path, 10, draw_nothing, keep_times=keep_times) as video:
        for time in (50, 50.3, 51):
            video.write(result_at(time))
    assert times_of(path) == pytest.approx(expected)


def test_a_mask_may_have_any_size(tmp_path):
    mask = np.array([[0, 1]], np.float32)
    with ResultVideo(tmp_path / 'a.avi', 25, draw_nothing) as video:
        video.write(result_at(0, None))
        video.write(result_at(0, mask))
    plain, tinted = (f[24:].astype(int) for f in read_video(video.path))
    assert np.abs(plain - tinted)[:, :30].mean() < 8
    assert (plain - tinted)[:, 34:, 1].mean() > 20


def test_without_frames_an_older_video_is_left_alone(tmp_path):
    path = tmp_path / 'a.mp4'
    path.write_text('older')
    with ResultVideo(path, 25, draw_nothing):
        pass
    assert path.read_text() == 'older'


def test_an_unknown_suffix_is_refused_at_once(tmp_path):
    with pytest.raises(InputError, match=r'\.mp4'):
        ResultVideo(tmp_path / 'a.gif', 25, draw_nothing)


def test_a_full_disk_ends_with_its_own_error(tmp_path):
    path = tmp_path / 'a.mp4'
    path.symlink_to('/dev/full')
    with pytest.raises(InputError, match='No space left on device'):
        write_all(ResultVideo(path, 25, draw_nothing), [result_at(0)] * 30)


def write_all(sink, frames):
    with sink:
        for frame in frames:
            sink.write(frame)


class Window:
    """Stands for OpenCV's windows."""

    def __init__(self, monkeypatch, keys, visible=1.0):
        self.shown = []
        self.sizes = []
        self.keys = iter(keys)
        monkeypatch.setattr(results_module, 'check_display', lambda: None)
        monkeypatch.setattr(cv2, 'namedWindow', lambda *_: None)
        monkeypatch.setattr(
            cv2, 'resizeWindow', lambda *a: self.sizes.append(a[1:])
        )
        monkeypatch.setattr(cv2, 'imshow', lambda *a: self.shown.append(a))
        monkeypatch.setattr(cv2, 'waitKey', lambda _: next(self.keys))
        monkeypatch.setattr(cv2, 'getWindowProperty', lambda *_: visible)
        monkeypatch.setattr(cv2, 'destroyWindow', self.shown.append)


def test_a_window_shows_frames_until_q(monkeypatch):
    window = Window(monkeypatch, [-1, ord('x'), ord('q')])
    with pytest.raises(KeyboardInterrupt):
        write_all(ShowWindow(draw_nothing, 'door'), [result_at(0)] * 9)
    assert [shown[0] for shown in window.shown[:3]] == ['door'] * 3
    assert window.shown[3:] == ['door']
    assert window.shown[0][1].shape == (48, 64, 3)
    assert window.sizes == [(64, 48)]


def test_a_window_that_is_closed_ends_the_run(monkeypatch):
    window = Window(monkeypatch, [-1] * 9, visible=0.0)
    with pytest.raises(KeyboardInterrupt):
        write_all(ShowWindow(draw_nothing, 'door'), [result_at(0)] * 9)
    assert len(window.shown) == 2


def test_a_window_hears_its_user_while_no_frame_comes(monkeypatch):
    Window(monkeypatch, [-1, -1, -1, 27])
    with ShowWindows(tiny_detector(), 0.3) as windows:
        windows.show({})
        result = next(results(1))
        windows.show({'door': result})
        windows.show({})
        with pytest.raises(KeyboardInterrupt):
            windows.show({})


@pytest.mark.parametrize(
    ('display', 'kind', 'match'),
    [('', 'QT', 'got none'), (':0', '', 'an OpenCV without windows')],
)
def test_without_a_display_it_says_what_to_do(
    monkeypatch, display, kind, match
):
    monkeypatch.setenv('DISPLAY', display)
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    monkeypatch.setattr(cv2, 'currentUIFramework', lambda: kind)
    with pytest.raises(InputError, match=f'{match}.*--out'):
        ShowWindow(draw_nothing, 'door')


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a source, by all of its names."""
    monkeypatch.chdir(tmp_path)
    source = tmp_path / 'ä b.mp4'
    source.write_bytes(b'video')
    (tmp_path / 'hard.mp4').hardlink_to(source)
    (tmp_path / 'soft.mp4').symlink_to(source)
    (tmp_path / 'there').symlink_to(tmp_path)
    return SimpleNamespace(source=source, folder=tmp_path)


@pytest.mark.parametrize(
    'name', ['ä b.mp4', './ä b.mp4', 'hard.mp4', 'soft.mp4', 'there/ä b.mp4']
)
def test_the_source_is_never_overwritten(place, name):
    for source in ('ä b.mp4', place.source, place.source.as_uri()):
        with pytest.raises(InputError, match=f'--out: {name} is the source'):
            check_outputs(source, {'--out': name}, {})
        with pytest.raises(InputError, match=f'--json: {name} is the source'):
            check_outputs(source, {}, {'--json': name})
    assert place.source.read_bytes() == b'video'


def test_a_file_address_with_plain_characters_is_a_source(place):
    for source in (f'file://{place.source}', f'file:{place.source}'):
        with pytest.raises(InputError, match='is the source'):
            check_outputs(source, {'--out': 'hard.mp4'}, {})


@pytest.mark.parametrize(
    'other', ['a.json', './a.json', 'there/a.json', 'link.json']
)
@pytest.mark.parametrize('exists', [False, True])
def test_two_outputs_are_two_files(place, other, exists):
    (place.folder / 'link.json').symlink_to('a.json')
    if exists:
        (place.folder / 'a.json').touch()
    with pytest.raises(InputError, match='two files for --json and --log'):
        check_outputs('ä b.mp4', {}, {'--json': 'a.json', '--log': other})


def test_hard_links_are_one_file(place):
    (place.folder / 'a.json').touch()
    os.link('a.json', 'b.json')
    with pytest.raises(InputError, match='which are one; give one'):
        check_outputs(0, {}, {'--json': 'a.json', '--log': 'b.json'})


@pytest.mark.parametrize(
    ('videos', 'logs', 'match'),
    [
        ({'--out': 'a.gif'}, {}, r"--out: .*\.avi, \.mkv.*got '\.gif'"),
        ({}, {'--json': 'a.xml'}, r'--json: .*\.json, \.jsonl, \.csv, \.txt'),
        ({}, {'--json': 'a'}, "got 'no ending'"),
        ({'--out': 'there'}, {}, '--out: .*got folder'),
        ({}, {'--json': 'there'}, '--json: .*got a folder'),
        ({'--out': 'hard.mp4/a.mp4'}, {}, 'hard.mp4, which is a file'),
        ({'--out': '/proc/a.mp4'}, {}, '/proc: No such file'),
        ({'--out': '/proc/new/a.mp4'}, {}, '/proc: No such file'),
    ],
)
def test_outputs_that_cannot_be_are_refused(place, videos, logs, match):
    before = sorted(place.folder.iterdir())
    with pytest.raises(InputError, match=match):
        check_outputs('ä b.mp4', videos, logs)
    assert sorted(place.folder.iterdir()) == before


def test_outputs_that_can_be_leave_nothing(place):
    before = sorted(place.folder.iterdir())
    videos = {'--out': 'new/folder/a.mp4', '--other': None}
    check_outputs('rtsp://door/1', videos, {'--json': 'new/folder/a.json'})
    check_outputs(place.folder, {'--out': 'a.mp4'}, {'--json': 'a.jsonl'})
    assert sorted(place.folder.iterdir()) == before

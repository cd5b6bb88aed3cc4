import threading
import time
import wave
from contextlib import closing
from itertools import islice

import cv2
import numpy as np
import pytest

from mmskip.reading import InputError
from mmskip.video import open_reader, read_ahead
from mmskip.video.reader import DEFAULT_FPS, NAMED
from tests.apis.fakes import damage_frame, noise_frames, write_video
from tests.video.videos import wait_until, write_frames


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


def test_reading_is_a_few_frames_ahead():
    read = []
    with closing(read_ahead(map(read.append, range(9)), 2)) as items:
        next(items)
        wait_until(lambda: len(read) == 4)
        time.sleep(0.2)
        # One taken, two that wait, and one that found no room.
        assert read == [0, 1, 2, 3]


def test_items_that_are_read_ahead_come_in_order_and_errors_at_their_place():
    def divide():
        for number in (2, 1, 0, 3):
            yield 2 / number

    items = read_ahead(divide())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ZeroDivisionError):
        next(items)
    assert list(read_ahead(iter('abc'), 1)) == list('abc')


def test_closing_ends_the_thread_and_what_it_iterates_over():
    ended = threading.Event()

    def count():
        try:
            yield from range(100)
        finally:
            ended.set()

    before = threading.active_count()
    items = read_ahead(count())
    next(items)
    items.close()
    assert ended.is_set()
    assert threading.active_count() == before


def test_work_in_the_thread_overlaps_with_what_is_done_meanwhile():
    def slowly(item):
        time.sleep(0.03)
        return item

    started = time.monotonic()
    for item in read_ahead(map(slowly, range(10))):
        slowly(item)
    assert time.monotonic() - started < 0.5


def test_a_reader_goes_on_where_it_stopped(tmp_path):
    path = write_video(tmp_path / 'a.avi', noise_frames(5))
    with open_reader(path) as reader:
        assert [frame.index for frame in islice(reader, 2)] == [0, 1]
        assert [frame.index for frame in reader] == [2, 3, 4]
        assert list(reader) == []


def test_closing_in_the_middle_leaves_no_thread(tmp_path):
    path = write_video(tmp_path / 'a.avi', noise_frames(20))
    before = threading.active_count()
    with open_reader(path) as reader:
        next(iter(reader))
    assert threading.active_count() == before
    with open_reader(path):
        pass
    assert threading.active_count() == before


def test_a_bad_frame_in_the_middle_is_skipped_and_named(tmp_path):
    path = write_video(tmp_path / 'a.avi', noise_frames(9))
    reader, indices, warnings = collect(damage_frame(path, 4))
    assert indices == [0, 1, 2, 3, 5, 6, 7, 8]
    assert reader.unreadable == 1
    assert len(warnings) == 1
    assert 'frame 4' in warnings[0]
    assert reader.cut_short is None


def test_many_bad_frames_are_named_and_then_counted(tmp_path):
    path = write_video(tmp_path / 'a.avi', noise_frames(40))
    for index in range(5, 35):
        damage_frame(path, index)
    reader, indices, warnings = collect(path)
    assert indices == [*range(5), *range(35, 40)]
    assert reader.unreadable == 30
    assert len(warnings) == NAMED + 1
    assert '30 frames in all cannot be read' in warnings[-1]
    assert reader.cut_short is None


def test_a_half_frame_is_damaged_and_told_at_the_end(tmp_path):
    smooth = [cv2.blur(image, (5, 5)) for image in noise_frames(9)]
    path = write_video(tmp_path / 'a.avi', smooth)
    reader, indices, warnings = collect(damage_frame(path, 4, 0.5))
    assert indices == list(range(9))
    assert (reader.damaged, reader.unreadable) == (1, 0)
    (warning,) = warnings
    assert warning.startswith(f'{path}: 1 of 9 frames are damaged')


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


def test_an_image_is_a_source_of_one_frame(tmp_path):
    path = tmp_path / 'a.png'
    cv2.imwrite(str(path), np.full((4, 6, 3), 7, np.uint8))
    with open_reader(path) as reader:
        (frame,) = reader
    assert frame.image.shape == (4, 6, 3)
    assert reader.num_frames == 1


def test_files_that_begin_with_a_dot_are_left_out(tmp_path):
    for name in ('a.png', '._a.png'):
        cv2.imwrite(str(tmp_path / name), np.zeros((4, 6, 3), np.uint8))
    assert collect(tmp_path)[1] == [0]


def test_times_of_a_folder_are_those_of_its_frame_rate(tmp_path):
    for number in range(3):
        path = str(tmp_path / f'{number}.png')
        cv2.imwrite(path, np.zeros((4, 6, 3), np.uint8))
    with open_reader(tmp_path) as reader:
        assert [frame.time for frame in reader] == [0, 0.04, 0.08]


def test_a_variable_frame_rate_is_kept(tmp_path):
    times = [0, 33, 233, 266, 900]
    path = write_frames(
        tmp_path / 'a.mkv', noise_frames(5), 'ffv1', 'bgr0', times
    )
    with open_reader(path) as reader:
        found = [round(1000 * frame.time) for frame in reader]
    assert found == times
    assert reader.cut_short is None


def test_times_begin_at_the_first_frame(tmp_path):
    times = [1000, 1040, 1080]
    path = write_frames(
        tmp_path / 'a.mkv', noise_frames(3), 'ffv1', 'bgr0', times
    )
    with open_reader(path) as reader:
        assert [frame.time for frame in reader] == pytest.approx(
            [0, 0.04, 0.08]
        )


def test_lost_packets_are_counted_until_the_next_key_frame(tmp_path):
    moving = [np.roll(noise_frames(1)[0], 3 * n, 1) for n in range(40)]
    path = write_frames(
        tmp_path / 'a.ts',
        moving,
        'libx264',
        'yuv420p',
        options={'g': '20', 'preset': 'ultrafast'},
    )
    data = path.read_bytes()
    # A packet in the second quarter: of frames 10 to 19 or so.
    lost = 188 * (len(data) * 3 // 10 // 188)
    path.write_bytes(data[:lost] + data[lost + 188 :])
    reader, indices, warnings = collect(path)
    assert 35 <= len(indices) <= 40
    assert 1 <= reader.damaged <= 20
    (warning,) = warnings
    assert f'{reader.damaged} of {len(indices)} frames are damaged' in warning


def test_a_video_without_a_picture_is_refused(tmp_path):
    path = tmp_path / 'a.wav'
    with wave.open(str(path), 'wb') as sound:
        sound.setparams((1, 2, 8000, 0, 'NONE', ''))
        sound.writeframes(bytes(16000))
    with pytest.raises(InputError, match='without a picture'):
        open_reader(path)

import time

import numpy as np
import pytest
import torch

import mmskip
from mmskip.apis import FrameStream, UserError, stream_video
from mmskip.apis.cameras import Camera, CameraError, Cameras
from mmskip.video import Frame, FrameReader
from tests.apis.fakes import noise_frames, static_frames, tiny_detector


class Fake(FrameReader):
    """Gives frames, and then may raise."""

    def __init__(self, frames, breaks=False, seconds=0.0):
        super().__init__('fake', 25, len(frames), print)
        self._images = frames
        self._breaks = breaks
        self._seconds = seconds

    def __iter__(self):
        for index, image in enumerate(self._images):
            time.sleep(self._seconds)
            yield Frame(index, image, time.time())
        if self._breaks:
            raise UserError('the camera broke')

    def close(self):
        pass


class Live(FrameReader):
    """Has a new frame each few milliseconds, of which it gives the newest."""

    is_live = True

    def __init__(self, count, seconds=0.02):
        super().__init__('live', 25, None, print)
        self.dropped = 0
        self.closed = False
        self._images = noise_frames(count)
        self._seconds = seconds
        self._start = time.monotonic()
        self._next = 0

    @property
    def ended(self):
        return self._next == len(self._images)

    def poll(self, seconds=0.0):
        since = time.monotonic() - self._start
        newest = min(int(since / self._seconds), len(self._images)) - 1
        if newest < self._next:
            return None
        self.dropped += newest - self._next
        self._next = newest + 1
        arrival = time.time() - since + (newest + 1) * self._seconds
        return Frame(newest, self._images[newest], arrival)

    def close(self):
        self.closed = True


class Kept(list):
    """A sink that keeps results."""

    def __enter__(self):
        self.is_open = True
        return self

    def __exit__(self, *_):
        self.is_open = False

    def write(self, result):
        self.append(result)


def make_camera(reader, name='a', sink=None, **options):
    sinks = [] if sink is None else [sink]
    return Camera(name, reader, FrameStream, lambda _: sinks, **options)


def run(model, cameras, **options):
    with Cameras(model, cameras, **options) as running:
        for _ in running.wait():
            pass
    return running


def scores(results):
    return [r.prediction.pred_instances.scores for r in results]


def videos():
    return [static_frames(4) + noise_frames(4, seed=seed) for seed in range(5)]


@pytest.mark.parametrize('workers', [1, 2])
def test_results_equal_those_of_each_camera_alone(workers):
    model = tiny_detector(threshold=0.05)
    mmskip.accelerate(model)
    alone = [list(stream_video(model, video)) for video in videos()]
    sinks = [Kept() for _ in videos()]
    cameras = [
        make_camera(Fake(video), sink=sink)
        for video, sink in zip(videos(), sinks, strict=True)
    ]
    run(model, cameras, workers=workers)
    for sink, results in zip(sinks, alone, strict=True):
        assert [r.index for r in sink] == list(range(8))
        assert [r.cost for r in sink] == [r.cost for r in results]
        assert scores(sink) == scores(results)
    assert all(camera.error is None for camera in cameras)


def test_a_camera_that_fails_ends_alone_and_completes_its_outputs():
    model = tiny_detector(threshold=0.05)
    sinks = Kept(), Kept()
    bad = make_camera(Fake(noise_frames(2), breaks=True), sink=sinks[0])
    good = make_camera(Fake(noise_frames(6), seconds=0.01), sink=sinks[1])
    run(model, [bad, good], workers=1)
    assert str(bad.error) == 'the camera broke'
    assert (len(sinks[0]), len(sinks[1])) == (2, 6)
    assert good.error is None
    assert not sinks[0].is_open


def test_an_output_that_fails_ends_its_camera_alone():
    class Full(Kept):
        def write(self, result):
            raise UserError('disk full')

    model = tiny_detector(threshold=0.05)
    bad = make_camera(Fake(noise_frames(3)), sink=Full())
    good = make_camera(Fake(noise_frames(3)))
    run(model, [bad, good], workers=1)
    assert str(bad.error) == 'disk full'
    assert (bad.totals.frames, good.totals.frames) == (0, 3)


def test_of_a_live_source_the_newest_frame_has_the_turn():
    class Slow(Kept):
        def write(self, result):
            self.append(result)
            time.sleep(0.1)

    slow, reader = Slow(), Live(30)
    camera = make_camera(reader, sink=slow)
    run(tiny_detector(threshold=0.05), [camera])
    numbers = camera.summary()
    assert len(slow) + numbers['dropped'] == 30
    assert numbers['dropped'] > 10
    assert slow[-1].index == 29
    # A frame waits for its turn no longer than one takes.
    assert numbers['oldest'] < 0.3
    assert reader.closed


def test_a_file_waits_for_its_turn():
    model = tiny_detector(threshold=0.05)
    camera = make_camera(Fake(noise_frames(20)))
    run(model, [camera])
    assert camera.totals.frames == 20
    assert camera.summary()['dropped'] == 0


def test_cameras_take_turns_fairly():
    model = tiny_detector(threshold=0.05)
    turns = []
    cameras = [
        make_camera(Fake(noise_frames(12)), name=str(n)) for n in range(3)
    ]
    run(
        model,
        cameras,
        workers=1,
        watch=lambda camera, _: turns.append(camera.name),
    )
    assert all(turns[: 3 * n].count('0') <= n + 2 for n in range(1, 13))
    assert sorted(turns) == sorted('012' * 12)


def test_it_ends_at_once_though_a_source_hangs():
    hangs = Fake(noise_frames(1), seconds=60)
    start = time.monotonic()
    with Cameras(tiny_detector(threshold=0.05), [make_camera(hangs)]):
        time.sleep(0.1)
    assert time.monotonic() - start < 1


def test_a_limit_of_memory_refuses_the_camera_that_is_too_much():
    model = tiny_detector(threshold=0.05)
    first = make_camera(Fake(noise_frames(2)))
    run(model, [first])
    cameras = [
        make_camera(Fake(noise_frames(9), seconds=0.01)) for _ in range(3)
    ]
    run(model, cameras, workers=1, max_memory=int(2.5 * first.nbytes))
    refused = [c for c in cameras if isinstance(c.error, CameraError)]
    assert len(refused) == 1
    assert '--max-memory' in str(refused[0].error)
    assert sorted(c.totals.frames for c in cameras) == [0, 9, 9]


def test_a_live_source_that_hangs_does_not_keep_the_others():
    model = tiny_detector(threshold=0.05)
    good = make_camera(Fake(noise_frames(5)))
    hangs = make_camera(Live(1, seconds=60))
    with Cameras(model, [hangs, good], workers=1) as running:
        for _ in running.wait():
            if good.has_ended:
                break
    assert good.totals.frames == 5
    assert hangs.has_ended


def test_frames_of_a_black_camera_are_counted():
    black = [np.zeros((48, 64, 3), np.uint8)] * 3
    said = []
    camera = make_camera(Fake(black), warn=said.append)
    run(tiny_detector(threshold=0.05), [camera])
    assert camera.summary()['black'] == 3
    assert 'black' in said[0]


def test_frames_are_limited():
    camera = make_camera(Fake(noise_frames(9)), max_frames=4)
    run(tiny_detector(threshold=0.05), [camera])
    assert camera.totals.frames == camera.num_frames == 4


def test_the_threads_of_a_user_keep_their_number():
    before = torch.get_num_threads()
    run(tiny_detector(), [make_camera(Fake(noise_frames(2)))] * 1)
    assert torch.get_num_threads() == before

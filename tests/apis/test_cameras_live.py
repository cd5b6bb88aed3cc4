"""Cameras on 127.0.0.1 and a model that is slower than they are."""

import threading
import time
from functools import partial
from pathlib import Path

import numpy as np

from mmskip.apis import FrameStream
from mmskip.apis.cameras import Camera, Cameras
from mmskip.video import LiveOptions, ResultLog, open_reader, read_results
from tests.apis.fakes import tiny_detector
from tests.video.stalling import Faults, camera

QUICK = LiveOptions(timeout=1.0, first_wait=0.05, longest_wait=0.2)


def moving_frames():
    frames = []
    for index in range(16):
        frame = np.full((48, 64, 3), 90, np.uint8)
        frame[10:30, 2 * index : 2 * index + 12] = 220
        frames.append(frame)
    return frames


class Slow(FrameStream):
    """Takes its time for a frame."""

    def __init__(self, shared, pause):
        super().__init__(shared)
        self._pause = pause

    def run(self, *prepared):
        time.sleep(self._pause)
        return super().run(*prepared)


def watch(address, seconds, path, pause):
    """Run a slow model on a camera for a while; returns it, and the ages."""
    ages = []

    def note(one, _):
        ages.append(one.age)

    def make_sinks(one):
        return [ResultLog(path, 'camera', one.summary)]

    one = Camera(
        'camera',
        open_reader(address, lambda _: None, QUICK),
        partial(Slow, pause=pause),
        make_sinks,
        warn=lambda _: None,
    )
    end = time.monotonic() + seconds
    with Cameras(tiny_detector(threshold=0.01), [one], watch=note) as running:
        for _ in running.wait():
            if time.monotonic() > end:
                break
    return one, ages


def resident_pages():
    return int(Path('/proc/self/statm').read_text().split()[1])


def test_results_of_a_slow_model_are_young_and_memory_stays(tmp_path):
    sizes = []
    stop = threading.Event()

    def measure():
        while not stop.wait(1):
            sizes.append(resident_pages())

    thread = threading.Thread(target=measure)
    with camera(moving_frames(), fps=25) as address:
        thread.start()
        one, ages = watch(address, 120, tmp_path / 'a.jsonl', pause=0.1)
        stop.set()
        thread.join()
    # 100 ms of the model, and a frame of the camera.
    assert max(ages) < 0.3
    numbers = one.summary()
    assert numbers['frames'] > 600
    assert numbers['dropped'] > numbers['frames'] / 2
    assert max(sizes[-5:]) < sizes[4] * 1.05
    indices = [entry['index'] for entry in read_results(tmp_path / 'a.jsonl')]
    assert len(indices) == numbers['frames']
    assert (np.diff(indices) > 0).all()


def test_every_reconnect_is_followed_by_a_reference_frame(tmp_path):
    # 7 seconds of pictures, then 3 without.
    faults = Faults(drop_after=175, away=3.0)
    path = tmp_path / 'a.jsonl'
    with camera(moving_frames(), fps=25, faults=faults) as address:
        one, _ = watch(address, 45, path, pause=0.02)
    assert one.error is None
    reconnects = one.summary()['reconnects']
    assert reconnects >= 3
    restarts = [entry.get('restart') for entry in read_results(path)]
    # Of the last one no frame may have been taken yet.
    assert 0 <= reconnects - restarts.count('reconnect') <= 1
    assert restarts[0] == 'first'
    assert set(restarts) == {'first', 'reconnect', None}
    assert len(restarts) == one.totals.frames

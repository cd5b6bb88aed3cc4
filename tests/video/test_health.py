import time

import cv2
import numpy as np
import pytest

from mmskip.video import Frame, FrameHealth, HealthLimits


def scene(seed=0, size=(192, 108)):
    """A picture with edges and slopes, without noise."""
    rng = np.random.default_rng(seed)
    small = rng.integers(30, 220, (9, 16, 3), dtype=np.uint8)
    return cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)


def flat(colour):
    return np.full((108, 192, 3), colour, np.uint8)


def noisy(deviation):
    noise = np.random.default_rng(1).normal(0, deviation, (108, 192, 3))
    return (scene() + noise).clip(0, 255).astype(np.uint8)


def half(image):
    """A scene whose lower half is another picture."""
    return np.vstack([scene()[:54], image[54:]])


@pytest.mark.parametrize(
    ('image', 'states'),
    [
        (scene(), ()),
        (scene() // 4 + 10, ()),
        (noisy(10), ()),
        (noisy(40), ('noisy',)),
        (flat(5), ('black',)),
        (flat(255), ('overexposed',)),
        (half(flat(255)), ()),
        (half(flat(129)), ('damaged',)),
        (half(flat((0, 135, 0))), ('damaged',)),
        (half(flat((0, 76, 0))), ('damaged',)),
        (half(flat((60, 135, 20))), ()),
    ],
)
def test_a_frame_is_known_by_its_picture(image, states):
    assert FrameHealth('a', str).check(Frame(0, image)) == states


def test_what_the_decoder_reports_is_damaged():
    health = FrameHealth('a', str)
    assert health.check(Frame(0, scene(), damaged=True)) == ('damaged',)
    assert health.counts['damaged'] == 1


def test_a_source_is_frozen_after_seconds_without_a_change():
    health = FrameHealth('a', str)
    times = (0, 5, 9.9, 10, 30)
    states = [health.check(Frame(0, scene(), at)) for at in times]
    assert states == [(), (), (), ('frozen',), ('frozen',)]
    assert health.check(Frame(0, scene(1), 31)) == ()
    never = FrameHealth('a', str, HealthLimits(frozen=None))
    assert [never.check(Frame(0, scene(), at)) for at in times] == [()] * 5


def test_a_state_is_told_when_it_begins_and_when_it_has_ended():
    told = []
    health = FrameHealth('a', told.append, HealthLimits(recovery=5))
    for index in range(40):
        # Two within the recovery are one.
        is_black = 10 <= index < 14 or index == 16
        image = flat(0) if is_black else scene(index)
        health.check(Frame(index, image))
    assert told == ['a is black from frame 10 on', 'a was black for 5 frames']
    assert health.counts['black'] == 5
    health.check(Frame(40, flat(0)))
    health.close()
    assert told[2:] == [
        'a is black from frame 40 on',
        'a was black for 1 frames',
    ]


@pytest.mark.parametrize('shape', [(1, 1), (1, 50), (3, 2), (63, 129)])
def test_any_size_can_be_checked(shape):
    image = np.full((*shape, 3), 60, np.uint8)
    assert FrameHealth('a', str).check(Frame(0, image)) == ()


def test_a_check_of_1080p_costs_less_than_a_millisecond():
    health = FrameHealth('a', str)
    frames = [Frame(n, scene(n, (1920, 1080)), n / 25) for n in range(8)]
    costs = []
    for _ in range(10):
        started = time.process_time()
        for frame in frames:
            health.check(frame)
        costs.append((time.process_time() - started) / len(frames))
    assert min(costs) < 1e-3

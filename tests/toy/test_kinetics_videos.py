"""Toy action videos that stand still, move slowly or move fast."""

import itertools

import numpy as np
import pytest

from mmskip.toy import kinetics
from mmskip.toy.kinetics import MOTIONS, SPEEDS, TrimmedVideo

SIZE = (96, 80)
PAIRS = list(itertools.pairwise(MOTIONS))[::2]


@pytest.fixture(autouse=True)
def no_noise(monkeypatch):
    monkeypatch.setattr(kinetics, 'NOISE', 0.0)


def film(label, group, seed=(0, 1), frames=6):
    video = TrimmedVideo(label, group, seed, frames, SIZE)
    return np.stack(list(video.film())).astype(int)


def change(frames):
    return np.abs(np.diff(frames, axis=0)).mean()


@pytest.mark.parametrize('label', MOTIONS)
def test_fast_changes_more_than_slow_and_static_not_at_all(label):
    changes = {group: change(film(label, group)) for group in SPEEDS}
    assert changes['static'] == 0
    assert changes['fast'] > 1.5 * changes['slow'] > 0


@pytest.mark.parametrize('pair', PAIRS)
def test_frames_of_a_pair_differ_by_the_arrow_or_the_direction(pair):
    one, other = (film(label, 'static') for label in pair)
    differ = (one != other).any((0, 3))
    # Within the sign: less than a tenth of the image.
    assert 0 < differ.mean() < 0.1
    for group in ('slow', 'fast'):
        one, other = (film(label, group) for label in pair)
        assert np.array_equal(one[0], other[0])
        assert not np.array_equal(one[1], other[1])


@pytest.mark.parametrize('pair', PAIRS)
def test_the_other_class_is_the_movement_backwards(pair):
    draw = MOTIONS[pair[0]].draw
    assert MOTIONS[pair[1]].draw is draw
    assert MOTIONS[pair[0]].sense == -MOTIONS[pair[1]].sense
    assert MOTIONS[pair[0]].arrow == (MOTIONS[pair[1]].arrow + 2) % 4


def test_half_of_the_frames_leave_little_of_fast_movements():
    # Half a period looks alike in both directions. In frames of a clip with
    # a frame interval of 2, and in half of them.
    assert max(2 * speed for speed in SPEEDS['fast']) <= 0.2
    assert min(4 * speed for speed in SPEEDS['fast']) >= 0.3
    assert max(4 * speed for speed in SPEEDS['slow']) <= 0.2


def test_the_same_seed_gives_the_same_frames():
    one = film('kites_rising', 'fast')
    assert np.array_equal(one, film('kites_rising', 'fast'))
    assert not np.array_equal(one, film('kites_rising', 'fast', (0, 2)))


def test_labels_are_in_alphabetical_order():
    assert list(MOTIONS) == sorted(MOTIONS)

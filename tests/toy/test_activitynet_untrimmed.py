"""Untrimmed toy videos."""

import itertools

import numpy as np
import pytest

from mmskip.toy.activitynet import (
    ACTION_SHARE,
    DISTRACTORS,
    ToyVideo,
    plan_shots,
)
from mmskip.toy.figures import ACTIONS

SIZE = (48, 48)


def film(label, seed=(0, 1)):
    video = ToyVideo(label, seed, 30, SIZE)
    return video, np.stack(list(video.film()))


def is_action(video, frames=30):
    inside = np.zeros(frames, bool)
    for shot in video.shots:
        inside[shot.start : shot.stop] |= shot.kind == 'action'
    return inside


@pytest.mark.parametrize('seed', range(4))
def test_shots_cover_all_frames_and_part_is_the_action(seed):
    shots = plan_shots(np.random.default_rng(seed), 60)
    assert shots[0].start == 0
    assert shots[-1].stop == 60
    assert all(a.stop == b.start for a, b in itertools.pairwise(shots))
    assert {shot.kind for shot in shots} <= {'action', *DISTRACTORS}
    kinds = [shot.kind for shot in shots]
    assert all(a != 'action' or b != a for a, b in itertools.pairwise(kinds))
    actions = [shot for shot in shots if shot.kind == 'action']
    assert 1 <= len(actions) <= 2
    share = sum(shot.stop - shot.start for shot in actions) / 60
    assert ACTION_SHARE[0] - 0.02 <= share <= ACTION_SHARE[1] + 0.02


@pytest.mark.parametrize('seed', [(0, 1), (3, 7)])
def test_what_is_outside_the_action_tells_nothing_of_the_label(seed):
    first, frames = film('Rowing a boat', seed)
    second, others = film('Flying a kite', seed)
    assert first.shots == second.shots
    inside = is_action(first)
    assert np.array_equal(frames[~inside], others[~inside])
    differ = (frames[inside] != others[inside]).any((1, 2, 3))
    assert differ.any()


def test_the_same_seed_gives_the_same_frames():
    assert np.array_equal(
        film('Spinning a hoop')[1], film('Spinning a hoop')[1]
    )
    other = film('Spinning a hoop', (0, 2))[1]
    assert not np.array_equal(film('Spinning a hoop')[1], other)


def test_every_action_looks_different():
    frames = [film(label)[1] for label in ACTIONS]
    inside = is_action(ToyVideo('Rowing a boat', (0, 1), 30, SIZE))
    for index, one in enumerate(frames):
        for other in frames[index + 1 :]:
            assert (one[inside] != other[inside]).any()


def test_segments_are_seconds():
    video = ToyVideo('Rowing a boat', (0, 1), 30, SIZE, fps=5.0)
    inside = is_action(video)
    for frame in range(30):
        middle = (frame + 0.5) / 5
        assert inside[frame] == any(a <= middle < b for a, b in video.segments)


def test_labels_are_in_alphabetical_order():
    assert list(ACTIONS) == sorted(ACTIONS)

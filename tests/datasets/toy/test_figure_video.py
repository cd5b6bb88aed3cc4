"""Figures with fifteen joints, and how they move."""

import numpy as np
import pytest

from mmskip.datasets.jhmdb_pose_json import NAMES
from mmskip.datasets.toy.figure_video import FigureVideo
from mmskip.datasets.toy.moves import (
    FOREARM,
    MOVES,
    SHIN,
    THIGH,
    UPPER_ARM,
    joints_at,
    vary,
)

LIMBS = {
    ('shoulder', 'elbow'): UPPER_ARM,
    ('elbow', 'wrist'): FOREARM,
    ('hip', 'knee'): THIGH,
    ('knee', 'ankle'): SHIN,
}


def film(**changes):
    options = dict(move='jump', seed=(0, 1), frames=6, size=(96, 72))
    return list(FigureVideo(**{**options, **changes}).film())


@pytest.mark.parametrize('move', MOVES)
def test_limbs_keep_their_length_and_some_joint_moves(move):
    swings = vary(MOVES[move], np.random.default_rng(0))
    poses = [joints_at(swings, phase) for phase in (0, 0.25, 0.5, 1)]
    for pose in poses:
        places = dict(zip(NAMES, pose, strict=True))
        for side in ('right', 'left'):
            for (start, end), length in LIMBS.items():
                limb = places[f'{side}_{end}'] - places[f'{side}_{start}']
                assert np.linalg.norm(limb) == pytest.approx(length)
    np.testing.assert_allclose(poses[0], poses[3], atol=1e-9)
    assert np.abs(poses[1] - poses[0]).max() > 0.03


def test_the_right_side_is_on_the_left_of_the_image():
    places = dict(zip(NAMES, joints_at({}, 0.0), strict=True))
    for part in ('shoulder', 'hip', 'ankle'):
        assert places[f'right_{part}'][0] < places[f'left_{part}'][0]


def test_a_mirrored_figure_is_one_with_its_sides_exchanged():
    swings = dict(right_arm=MOVES['jump']['right_arm'])
    mirror = dict(left_arm=MOVES['jump']['right_arm'])
    places = dict(zip(NAMES, joints_at(swings, 0.2), strict=True))
    mirrored = dict(zip(NAMES, joints_at(mirror, 0.2), strict=True))
    for part in ('shoulder', 'elbow', 'wrist', 'knee'):
        there = places[f'right_{part}'] * (-1, 1)
        np.testing.assert_allclose(there, mirrored[f'left_{part}'])


def test_joints_are_inside_of_the_mask():
    for shot in film(size=(192, 144)):
        for x, y in np.round(shot.joints).astype(int):
            assert shot.mask[y, x]


def test_only_the_figure_moves():
    first, *_, last = film(frames=12, move='pullup')
    change = np.abs(first.image.astype(int) - last.image).max(-1) > 12
    grown = np.zeros_like(change)
    for shot in (first, last):
        ys, xs = np.nonzero(shot.mask)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                grown[np.clip(ys + dy, 0, 71), np.clip(xs + dx, 0, 95)] = True
    assert change.any()
    assert not (change & ~grown).any()


def test_seeds_and_clutter_change_what_is_seen():
    def first(**changes):
        return film(**changes)[0].image

    assert (first() == first()).all()
    assert (first() != first(seed=(0, 2))).any()
    assert (first() != first(clutter=False)).any()

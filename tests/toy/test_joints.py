"""Figures with fifteen joints, and how they move."""

import numpy as np

from mmskip.datasets.jhmdb_pose_release import NAMES
from mmskip.toy.joints import FigureVideo, joints_at


def film(**changes):
    options = dict(move='jump', seed=(0, 1), frames=6, size=(96, 72))
    return list(FigureVideo(**{**options, **changes}).film())


def test_the_right_side_is_on_the_left_of_the_image():
    places = dict(zip(NAMES, joints_at({}, 0.0), strict=True))
    for part in ('shoulder', 'hip', 'ankle'):
        assert places[f'right_{part}'][0] < places[f'left_{part}'][0]


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

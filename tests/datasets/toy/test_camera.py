"""Projection and back-projection of the toy camera."""

import numpy as np
import pytest

from mmskip.datasets.toy.camera import NEAR, Camera


@pytest.fixture
def camera():
    return Camera(
        size=(60, 40), focal=55.0, position=(2.0, 1.0, 8.0), yaw=0.2, pitch=0.3
    )


def test_the_axes_are_a_rotation(camera):
    assert np.allclose(camera.axes @ camera.axes.T, np.eye(3))
    assert np.linalg.det(camera.axes) == pytest.approx(1.0)


def test_the_ground_of_a_pixel_projects_to_its_middle(camera):
    x, y = camera.ground()
    rows, columns = np.nonzero(~np.isnan(x))
    points = np.stack(
        [x[rows, columns], y[rows, columns], np.zeros(len(rows))], -1
    )
    expected = np.stack([columns, rows], -1) + 0.5
    near = np.hypot(points[:, 0], points[:, 1]) < 200
    assert near.sum() > 1000
    assert np.allclose(camera.project(points)[near], expected[near], atol=1e-2)


def test_there_is_no_ground_above_the_horizon(camera):
    x, _ = camera.ground()
    rows = np.isnan(x).all(1).sum()
    assert rows == pytest.approx(camera.horizon, abs=1.0)


def test_up_right_and_ahead_are_where_one_expects_them():
    camera = Camera((60, 40), 55.0, (0.0, 0.0, 8.0), yaw=0.0, pitch=0.3)
    base, up, right, ahead = camera.project(
        np.array([[0, 20, 0], [0, 20, 1], [1, 20, 0], [0, 21, 0]])
    )
    assert up[1] < base[1]
    assert right[0] > base[0]
    assert ahead[1] < base[1]


def test_a_polygon_is_cut_where_it_comes_too_close(camera):
    away = camera.axes[2]
    start = np.array(camera.position)
    side = camera.axes[0]
    square = np.array(
        [
            start + 5 * away - side,
            start + 5 * away + side,
            start - 5 * away + side,
            start - 5 * away - side,
        ]
    )
    pixels = camera.project_polygon(square)
    assert len(pixels) == 4
    assert np.isfinite(pixels).all()
    width = np.ptp(pixels[:, 0])
    assert width == pytest.approx(2 * camera.focal / NEAR)
    assert len(camera.project_polygon(square - 20 * away)) == 0

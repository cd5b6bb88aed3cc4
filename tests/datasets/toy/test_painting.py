"""Painted vehicles: boxes, what hides what, shapes."""

import numpy as np
import pytest

from mmskip.datasets.toy.camera import Camera
from mmskip.datasets.toy.painting import (
    Placed,
    cover,
    paint_shadow,
    paint_vehicle,
)
from mmskip.datasets.toy.scene import Light
from mmskip.datasets.toy.vehicle_types import make_shape

LIGHT = Light('sunny', (0.3, 0.2, 0.93), (1.0, 1.0), (1.0, 1.0, 1.0))
KINDS = ('car', 'van', 'bus', 'others')


@pytest.fixture
def camera():
    return Camera((480, 288), 450.0, (0.0, 0.0, 9.0), yaw=0.1, pitch=0.33)


@pytest.fixture
def sheets():
    return np.full((288, 480, 3), 128, np.uint8), np.zeros(
        (288, 480), np.uint8
    )


def shape(kind='car', seed=0):
    return make_shape(kind, np.random.default_rng(seed))


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('direction', [-1, 1])
def test_the_box_is_that_of_the_painted_pixels(
    camera, sheets, kind, direction
):
    canvas, ids = sheets
    vehicle = Placed(shape(kind), 2.0, 26.0, direction)
    outline = paint_vehicle(canvas, ids, camera, vehicle, LIGHT, 3)
    rows, columns = np.nonzero(ids == 3)
    painted = (
        columns.min(),
        rows.min(),
        columns.max() + 1,
        rows.max() + 1,
    )
    assert np.allclose(outline.box, painted, atol=1.5)
    assert set(np.unique(ids)) == {0, 3}
    assert len(rows) == pytest.approx(outline.area, rel=0.15)
    assert np.array_equal((canvas != 128).any(-1), ids == 3)


def test_types_differ_in_size():
    sizes = {kind: shape(kind) for kind in KINDS}
    assert sizes['car'].height < 1.6 < sizes['van'].height < 2.4
    assert sizes['others'].height > 2.8
    assert sizes['bus'].length > 9.5 > sizes['others'].length


def test_a_nearer_vehicle_hides_a_farther_one(camera, sheets):
    far = Placed(shape('car'), 0.0, 30.0, -1)
    near = Placed(shape('bus'), 0.0, 22.0, -1)
    first = paint_vehicle(*sheets, camera, far, LIGHT, 1)
    visible = (sheets[1] == 1).sum()
    second = paint_vehicle(*sheets, camera, near, LIGHT, 2)
    assert first.hides == {}
    assert list(second.hides) == [1]
    x1, y1, x2, y2 = second.hides[1]
    assert x1 >= first.box[0] - 1.5
    assert y1 >= first.box[1] - 1.5
    assert x2 <= first.box[2] + 1.5
    assert y2 <= first.box[3] + 1.5
    assert (sheets[1] == 1).sum() < visible


def test_what_is_behind_the_camera_is_not_painted(camera, sheets):
    vehicle = Placed(shape(), 0.0, -30.0, 1)
    assert paint_vehicle(*sheets, camera, vehicle, LIGHT, 1) is None
    paint_shadow(sheets[0], camera, vehicle, LIGHT)
    assert (sheets[0] == 128).all()
    assert (sheets[1] == 0).all()


def test_a_vehicle_half_below_the_camera_sticks_out_of_the_image(
    camera, sheets
):
    vehicle = Placed(shape('bus'), 0.0, 7.0, -1)
    outline = paint_vehicle(*sheets, camera, vehicle, LIGHT, 1)
    assert outline.box[3] > 288
    assert 0 < (sheets[1] == 1).sum() < outline.area


@pytest.mark.parametrize('weather', ['sunny', 'cloudy'])
def test_a_shadow_darkens(camera, sheets, weather):
    light = Light(weather, LIGHT.sun, LIGHT.gain, LIGHT.tint)
    paint_shadow(sheets[0], camera, Placed(shape(), 0.0, 25.0, 1), light)
    assert sheets[0].max() == 128
    assert 60 < sheets[0].min() < 95


def test_covering_tells_the_box_of_what_is_covered():
    ids = np.zeros((6, 8), np.uint8)
    ids[1:4, 2:5] = 7
    mask = np.ones((3, 4), np.uint8)
    assert cover(ids, mask, (3, 2), 9) == {7: (3, 2, 5, 4)}
    assert (ids == 9).sum() == 12
    assert cover(ids, mask, (3, 2), 9) == {}

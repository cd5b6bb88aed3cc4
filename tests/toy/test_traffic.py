"""Boxes of painted vehicles."""

import numpy as np
import pytest

from mmskip.toy.scene import Camera, Light
from mmskip.toy.traffic import Placed, paint_vehicle
from mmskip.toy.vehicles import make_shape

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
def test_the_box_is_that_of_the_painted_pixels(camera, sheets, kind):
    canvas, ids = sheets
    vehicle = Placed(shape(kind), 2.0, 26.0, direction=-1)
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

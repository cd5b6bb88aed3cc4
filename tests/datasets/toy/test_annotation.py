"""Which vehicles are annotated, and with which box."""

import numpy as np
import pytest

from mmskip.datasets.toy.annotation import Annotator
from mmskip.datasets.toy.camera import Camera
from mmskip.datasets.toy.painting import Outline
from mmskip.datasets.toy.traffic import Vehicle
from mmskip.datasets.toy.vehicle_types import make_shape

CAMERA = Camera((90, 60), 80.0, (0.0, 0.0, 8.0), yaw=0.0, pitch=0.3)


def vehicle(track_id, direction=-1):
    shape = make_shape('car', np.random.default_rng(0))
    return Vehicle(track_id, 'car', shape, 0, 0.0, 20.0, direction, 9.0, 9.0)


def annotate(outlines, ids, hidden=None, ignored=(), direction=-1):
    annotator = Annotator(CAMERA, scale=3)
    annotator.ignored_regions += ignored
    vehicles = [vehicle(10 + i, direction) for i in range(len(outlines))]
    return annotator.annotate(vehicles, outlines, ids, hidden or {})


def painted(number, columns):
    ids = np.zeros((60, 90), np.uint8)
    ids[0:10, :columns] = number
    return ids


def test_boxes_are_scaled_and_clipped_and_truncation_is_told():
    outline = Outline((60.0, 30.0, 120.0, 60.0), 100.0)
    (only,) = annotate([outline], painted(1, 10))
    assert only.box == (20.0, 10.0, 30.0, 20.0)
    assert only.truncation == pytest.approx(0.5)
    assert (only.track_id, only.kind) == (10, 'car')


@pytest.mark.parametrize(('columns', 'annotated'), [(14, 0), (15, 1)])
def test_what_is_hidden_by_more_than_85_percent_is_left_out(
    columns, annotated
):
    outline = Outline((0.0, 0.0, 30.0, 30.0), 1000.0)
    assert len(annotate([outline], painted(1, columns))) == annotated


@pytest.mark.parametrize(
    ('region', 'annotated'),
    [((0, 0, 30, 20), 0), ((0, 0, 30, 9), 1), ((6, 0, 30, 20), 1)],
)
def test_what_stands_in_an_ignored_region_is_left_out(region, annotated):
    outline = Outline((0.0, 0.0, 30.0, 30.0), 100.0)
    found = annotate([outline], painted(1, 10), ignored=[region])
    assert len(found) == annotated


def test_what_is_out_of_sight_is_left_out():
    outlines = [None, Outline((100.0, 0.0, 120.0, 30.0), 100.0)]
    assert annotate(outlines, np.zeros((60, 90), np.uint8)) == []


def test_overlaps_with_what_is_not_annotated_are_left_out():
    ids = painted(1, 10)
    outlines = [
        Outline((0.0, 0.0, 30.0, 30.0), 100.0, hides={2: (0, 0, 3, 3)}),
        Outline((0.0, 0.0, 30.0, 30.0), 100.0),
    ]
    (only,) = annotate(outlines, ids, hidden={1: (3, 3, 9, 9)})
    (overlap,) = only.overlaps
    assert (overlap.other, overlap.status) == (-1, -1)
    assert overlap.box == (1.0, 1.0, 3.0, 3.0)


@pytest.mark.parametrize(('direction', 'angle'), [(1, 90.0), (-1, 270.0)])
def test_orientation_is_that_in_the_image(direction, angle):
    outline = Outline((0.0, 0.0, 30.0, 30.0), 100.0)
    (only,) = annotate([outline], painted(1, 10), direction=direction)
    assert only.orientation == pytest.approx(angle)

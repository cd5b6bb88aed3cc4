import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmskip.reading import InputError
from mmskip.video.regions import Region, RegionHolder, read_polygon
from mmskip.visualization import InputMap

SQUARE = [(10, 10), (29, 10), (29, 29), (10, 29)]


def test_a_polygon_is_watched_and_nothing_else():
    mask = Region([SQUARE]).mask((40, 60))
    expected = np.zeros((40, 60), bool)
    expected[10:30, 10:30] = True
    assert np.array_equal(mask, expected)
    assert Region([SQUARE]).share((40, 60)) == 400 / 2400


def test_what_is_ignored_is_not_watched():
    mask = Region(ignore=[SQUARE]).mask((40, 60))
    assert mask.sum() == 2000
    assert not mask[15, 15]


def test_corners_may_be_shares_of_the_picture():
    half = [(0, 0), (0.5, 0), (0.5, 1), (0, 1)]
    region = Region([half])
    assert region.mask((40, 60))[:, 5].all()
    assert not region.mask((40, 60))[:, 40].any()
    assert region.mask((80, 120))[:, 50].all()


def test_a_picture_is_white_where_nothing_is_watched(tmp_path):
    picture = np.zeros((20, 30), np.uint8)
    picture[:, 15:] = 255
    path = tmp_path / 'mask.png'
    cv2.imwrite(str(path), picture)
    mask = Region(ignore=[path]).mask((40, 60))
    assert mask[:, :30].all()
    assert not mask[:, 30:].any()


@pytest.mark.parametrize(
    ('make', 'what'),
    [
        (lambda: Region([[(0, 0), (1, 1)]]), 'three corners'),
        (lambda: Region(ignore=['none.png']), 'none.png'),
        (
            lambda: Region(ignore=[[(0, 0), (1, 0), (1, 1), (0, 1)]]).mask(
                (4, 4)
            ),
            '--region and --ignore',
        ),
        (lambda: read_polygon('1,2,3'), 'polygon'),
        (lambda: read_polygon('a,b,c,d,e,f'), 'polygon'),
    ],
)
def test_wrong_regions_are_refused(make, what):
    with pytest.raises(InputError, match=what):
        make()


def test_a_polygon_is_read_from_numbers():
    assert read_polygon('0,1,2,3,4,5.5') == [(0, 1), (2, 3), (4, 5.5)]


def test_boxes_whose_centre_is_outside_are_dropped():
    boxes = [[0, 0, 30, 30], [26, 10, 40, 20], [-9, -9, 3, 3]]
    sample = DetDataSample(
        pred_instances=InstanceData(
            bboxes=torch.tensor(boxes, dtype=torch.float32),
            scores=torch.ones(3),
        )
    )
    kept = Region([SQUARE]).keep(sample, (40, 60)).pred_instances
    assert kept.bboxes.tolist() == [[0, 0, 30, 30]]


def test_outside_of_the_region_the_input_stays_what_it_was():
    where = InputMap(0.5, 0.5, 0.0, 5.0, 40, 30)
    holder = RegionHolder(Region([SQUARE]))
    first = torch.zeros(3, 40, 30)
    holder.hold(first, where, (40, 60))
    assert first.eq(0).all()
    second = torch.ones(3, 40, 30)
    holder.hold(second, where, (40, 60))
    expected = torch.zeros(40, 30)
    expected[10:20, 5:15] = 1
    assert torch.equal(second, expected.expand(3, -1, -1))
    holder.renew()
    third = torch.ones(3, 40, 30)
    holder.hold(third, where, (40, 60))
    assert third.eq(1).all()

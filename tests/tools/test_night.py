"""The benchmark of gates in less and less light."""

import math

import numpy as np
import pytest
from mmengine.fileio import dump

from mmskip.apis import UserError


@pytest.fixture
def tool(load_tool):
    pytest.importorskip('pycocotools')
    return load_tool('benchmarks/night')


def box(frame, left, score=1.0, label=0):
    return dict(
        image_id=frame,
        category_id=label,
        bbox=[left, 0, 10, 20],
        score=score,
    )


def test_ap50_looks_at_the_given_frames_and_classes_only(tool):
    truth = [box(3, 0), box(4, 50), box(9, 0)]
    found = [box(3, 1), box(4, 50), box(4, 50, label=7)]

    assert tool.ap50(truth, found, range(3, 5)) == pytest.approx(100)
    assert tool.ap50(truth, found, range(3, 10)) < 70
    assert tool.ap50(truth, [], range(3, 5)) == 0
    assert math.isnan(tool.ap50([], found, range(3, 5)))


def test_less_light_is_rounded_to_what_a_camera_gives(tool):
    image = np.array([[[0, 5, 255]]], np.uint8)

    assert tool.darkened(image, 0.1).tolist() == [[[0, 0, 26]]]
    assert tool.darkened(image, 2.0).tolist() == [[[0, 10, 255]]]


def test_a_class_that_the_detector_does_not_know_is_refused(tool, tmp_path):
    path = str(tmp_path / 'truth.json')
    dump(
        dict(
            images=[dict(id=8, frame_id=2)],
            categories=[dict(id=1, name='person')],
            annotations=[dict(image_id=8, category_id=1, bbox=[0, 0, 1, 1])],
        ),
        path,
    )

    (found,) = tool.truth_of(path, ['car', 'person'])
    assert (found['image_id'], found['category_id']) == (2, 1)
    with pytest.raises(UserError, match=r"truth\.json.*\['person'\]"):
        tool.truth_of(path, ['car'])

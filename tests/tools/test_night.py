"""The benchmark of gates in less and less light."""

import numpy as np
import pytest
from mmengine.fileio import dump

from mmskip.apis import UserError


@pytest.fixture
def tool(load_tool):
    pytest.importorskip('pycocotools')
    return load_tool('benchmarks/night')


def test_a_detector_that_runs_now_and_then_keeps_its_boxes(tool):
    boxes = [dict(image_id=i, score=i / 10) for i in (5, 6, 7, 9)]
    dense = tool.Run(boxes, 8.0, 8.0)

    found = tool.repeated(dense, 5, 2)

    assert [(box['image_id'], box['score']) for box in found.boxes] == [
        (5, 0.5),
        (6, 0.5),
        (7, 0.7),
        (8, 0.7),
        (9, 0.9),
    ]
    assert (found.dense, found.spent) == (8.0, 4.0)


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

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData

from mmskip.visualization import PredictionDrawer
from mmskip.visualization.overlay import stable_colour

IMAGE = np.full((96, 128, 3), 90, dtype=np.uint8)
BOX = (40, 30, 100, 70)


def drawer(score_thr=0.3, **meta):
    return PredictionDrawer(SimpleNamespace(dataset_meta=meta), score_thr)


def boxes(score, label=0, **fields):
    instances = InstanceData(
        bboxes=torch.tensor([BOX], dtype=torch.float32),
        scores=torch.tensor([score]),
        labels=torch.tensor([label]),
        **fields,
    )
    return BaseDataElement(pred_instances=instances)


def pose(scores, points=((32.0, 48.0), (96.0, 48.0)), **fields):
    instances = InstanceData(
        keypoints=np.array([points]),
        keypoint_scores=np.array([scores]),
        **fields,
    )
    return BaseDataElement(pred_instances=instances)


def has_colour(image, colour):
    return (image == colour).all(-1).any()


def test_a_box_has_a_frame_and_a_label():
    drawn = drawer(classes=('car',))(IMAGE, boxes(0.9))
    assert drawn.shape == IMAGE.shape
    assert drawn.dtype == np.uint8
    assert (IMAGE == 90).all()
    x1, y1, x2, y2 = BOX
    colour = stable_colour(0)
    for row, column in ((y1 + 20, x1), (y1 + 20, x2), (y1, 70), (y2, 70)):
        assert (drawn[row, column] == colour).all()
    # The inside stays, the plate of the label is above.
    assert (drawn[y1 + 5 : y2 - 5, x1 + 5 : x2 - 5] == 90).all()
    assert (drawn[y1 - 8 : y1 - 2, x1 + 1] == colour).all()
    assert (drawn[:, :30] == 90).all()


def test_boxes_below_the_threshold_are_not_drawn():
    drawn = drawer(0.5)(IMAGE, boxes(0.4))
    np.testing.assert_array_equal(drawn, IMAGE)
    assert not np.shares_memory(drawn, IMAGE)


def test_without_names_labels_are_numbers():
    assert has_colour(drawer()(IMAGE, boxes(0.9, 3)), stable_colour(3))
    drawer(classes=('car',))(IMAGE, boxes(0.9, 3))


def test_a_model_without_meta_information_is_drawn():
    draw = PredictionDrawer(SimpleNamespace(dataset_meta=None))
    assert has_colour(draw(IMAGE, boxes(0.9)), stable_colour(0))


def test_a_track_keeps_its_colour_whatever_its_class():
    draw = drawer(classes=('car', 'bus'))
    for label in (0, 1):
        found = boxes(0.9, label, instances_id=torch.tensor([7]))
        assert has_colour(draw(IMAGE, found), stable_colour(7))
    lost = boxes(0.9, 1, instances_id=torch.tensor([-1]))
    assert has_colour(draw(IMAGE, lost), stable_colour(1))


def test_numbers_that_are_near_have_colours_that_are_far():
    colours = np.array([stable_colour(number) for number in range(100)])
    assert len(np.unique(colours, axis=0)) == 100
    steps = np.abs(np.diff(colours[:20], axis=0)).max(1)
    assert steps.min() > 100


@pytest.mark.parametrize(
    'box',
    [
        (-20, -20, 30, 30),
        (100, 80, 400, 300),
        (0, 0, 128, 96),
        (-1e30, 0, 1e30, 50),
        (float('nan'), 0, 10, 50),
        (120, 90, 120, 90),
    ],
)
def test_any_box_can_be_drawn(box):
    found = boxes(0.9)
    found.pred_instances.bboxes = torch.tensor([box], dtype=torch.float32)
    drawn = drawer(classes=('a long name of a class',))(IMAGE, found)
    assert (drawn != IMAGE).any()


def test_an_empty_prediction_is_a_copy():
    found = boxes(0.9)
    found.pred_instances = found.pred_instances[:0]
    np.testing.assert_array_equal(drawer()(IMAGE, found), IMAGE)


def test_a_mask_is_half_of_its_colour():
    mask = torch.zeros(1, 96, 128, dtype=torch.bool)
    mask[0, 40:60, 50:80] = True
    drawn = drawer()(IMAGE, boxes(0.9, masks=mask))
    half = (90 + np.array(stable_colour(0))) / 2
    assert np.abs(drawn[40:60, 50:80] - half).max() <= 0.5
    assert (drawn[45, 85] == 90).all()


def test_a_pose_has_its_skeleton_and_colours():
    draw = drawer(
        keypoint_colors=[(0, 255, 0), (255, 0, 0)],
        skeleton_links=[(0, 1)],
        skeleton_link_colors=np.array([[1, 2, 3]]),
    )
    drawn = draw(IMAGE, pose((0.9, 0.8)))
    # From red, green, blue to blue, green, red.
    assert (drawn[48, 32] == (0, 255, 0)).all()
    assert (drawn[48, 96] == (0, 0, 255)).all()
    # Its edges are smoothed.
    np.testing.assert_allclose(drawn[48, 64], (3, 2, 1), atol=12)


def test_keypoints_below_the_threshold_are_left_out_with_their_links():
    draw = drawer(skeleton_links=[(0, 1)])
    drawn = draw(IMAGE, pose((0.9, 0.1)))
    assert (drawn[48, 32] != 90).any()
    assert (drawn[:, 50:] == 90).all()
    nowhere = pose((0.9, 0.9), ((32.0, 48.0), (np.nan, 1e30)))
    np.testing.assert_array_equal(draw(IMAGE, nowhere), drawn)


def test_a_pose_on_a_track_has_its_box_and_number():
    fields = dict(
        bboxes=np.array([BOX], np.float32), instances_id=np.array([5])
    )
    drawn = drawer()(IMAGE, pose((0.1, 0.1), **fields))
    assert (drawn[50, BOX[0]] == stable_colour(5)).all()

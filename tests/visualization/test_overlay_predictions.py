import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData

from mmskip.visualization import PredictionDrawer
from tests.apis.fakes import tiny_detector

IMAGE = np.full((48, 64, 3), 90, dtype=np.uint8)


def boxes(score):
    instances = InstanceData(
        bboxes=torch.tensor([[10.0, 10.0, 50.0, 40.0]]),
        scores=torch.tensor([score]),
        labels=torch.tensor([0]),
    )
    return BaseDataElement(pred_instances=instances)


def test_a_detectors_boxes_are_drawn():
    pytest.importorskip('mmdet')
    draw = PredictionDrawer(tiny_detector())
    drawn = draw(IMAGE, boxes(0.9))
    assert drawn.shape == IMAGE.shape
    assert drawn.dtype == np.uint8
    assert (drawn[20, 8:13] != 90).any()
    assert (drawn[0] == 90).all()


def test_boxes_below_the_threshold_are_not_drawn():
    pytest.importorskip('mmdet')
    draw = PredictionDrawer(tiny_detector(), score_thr=0.5)
    np.testing.assert_array_equal(draw(IMAGE, boxes(0.4)), IMAGE)


def test_colours_stay_in_their_channels():
    pytest.importorskip('mmdet')
    image = np.zeros((48, 64, 3), dtype=np.uint8)
    image[..., 0] = 200
    drawn = PredictionDrawer(tiny_detector(), 0.5)(image, boxes(0.1))
    np.testing.assert_array_equal(drawn, image)


def test_keypoints_are_drawn_with_the_configs_own_visualizer():
    pytest.importorskip('mmpose')
    model = tiny_detector()
    model.cfg.default_scope = 'mmpose'
    model.cfg.visualizer = dict(
        type='PoseLocalVisualizer',
        name='visualizer',
        radius=6,
        vis_backends=[dict(type='LocalVisBackend')],
    )
    model.dataset_meta = dict(keypoint_colors=[(0, 255, 0), (0, 255, 0)])
    instances = InstanceData(
        keypoints=np.array([[[16.0, 24.0], [48.0, 24.0]]]),
        keypoints_visible=np.array([[0.9, 0.1]]),
    )
    prediction = BaseDataElement(pred_instances=instances)
    drawn = PredictionDrawer(model)(IMAGE, prediction)
    assert (drawn[24, 12] == (0, 255, 0)).all()
    assert (drawn[24, 48] == 90).all()


def test_no_visualizer_is_kept_for_good():
    kind = pytest.importorskip('mmdet.visualization').DetLocalVisualizer
    before = dict(kind._instance_dict)
    PredictionDrawer(tiny_detector())
    assert kind._instance_dict == before


def test_other_hosts_are_refused():
    model = tiny_detector()
    model.cfg.default_scope = 'mmaction'
    with pytest.raises(ValueError, match='one of mmdet, mmpose'):
        PredictionDrawer(model)

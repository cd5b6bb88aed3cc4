"""Agreement with a dense model: losses of outputs, measures of predictions."""

import math

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData
from torch import nn

from mmskip.evaluation import (
    DenseDetectorLoss,
    FeatureLoss,
    LogitsLoss,
    loss_for,
)
from mmskip.evaluation.agreement import agreement, average_precisions
from mmskip.registry import DISTILL_LOSSES

CLIPS, FRAMES = 2, 3


def detector_output(places=False, priors=2, seed=0):
    """Two levels of class scores, boxes and, if asked for, objectness."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [(4, 6), (2, 3)]
    channels = [3 * priors, 4 * priors] + [priors] * places
    return tuple(
        [
            torch.randn(CLIPS * FRAMES, count, *size, generator=generator)
            for size in sizes
        ]
        for count in channels
    )


def moved(output, index, step):
    """Outputs whose tensors of one kind are off in the first clip."""
    other = [list(levels) for levels in output]
    for level, values in enumerate(other[index]):
        values = values.clone()
        values[:FRAMES] += step
        other[index][level] = values
    return tuple(other)


@pytest.mark.parametrize('places', [False, True])
@pytest.mark.parametrize('priors', [1, 2])
def test_detectors_are_compared_clip_by_clip(places, priors):
    loss = DenseDetectorLoss(priors)
    dense = detector_output(places, priors)
    assert loss(dense, dense, CLIPS).tolist() == [0, 0]

    for index in range(len(dense)):
        first, second = loss(moved(dense, index, 0.3), dense, CLIPS)
        assert first > 0
        assert second == 0


def test_boxes_of_nothing_do_not_count():
    scores, boxes = detector_output()
    dense = [score - 20 for score in scores], boxes
    found = DenseDetectorLoss(2)(moved(dense, 1, 5.0), dense, CLIPS)
    assert found.tolist() == [0, 0]


def test_an_empty_scene_does_not_make_noise_a_catastrophe():
    scores, boxes = detector_output()
    dense = [score - 20 for score in scores], boxes
    found = DenseDetectorLoss(2)(moved(dense, 0, 1.0), dense, CLIPS)
    assert found[0] < 1e-9


def test_errors_of_features_are_shares_of_their_power():
    dense = [torch.ones(6, 2, 3), torch.full((6, 4), 10.0)]
    other = [1.1 * dense[0], 1.2 * dense[1]]
    found = FeatureLoss()(other, dense, CLIPS)
    torch.testing.assert_close(found, torch.full((2,), (0.01 + 0.04) / 2))


def test_logits_are_compared_as_distributions():
    dense = torch.randn(6, 5)
    loss = LogitsLoss()
    torch.testing.assert_close(
        loss(dense + 3, dense, CLIPS), torch.zeros(CLIPS), atol=1e-6, rtol=0
    )
    assert (loss(torch.zeros(6, 5), dense, CLIPS) > 0).all()


class Model(nn.Module):
    def __init__(self, **heads):
        super().__init__()
        for name, settings in heads.items():
            head = nn.Identity()
            for key, value in settings.items():
                setattr(head, key, value)
            setattr(self, name, head)


@pytest.mark.parametrize(
    ('model', 'output', 'kind'),
    [
        (
            Model(bbox_head=dict(use_sigmoid_cls=True, num_base_priors=2)),
            detector_output(),
            DenseDetectorLoss,
        ),
        (
            Model(bbox_head=dict(use_sigmoid_cls=False)),
            detector_output(),
            FeatureLoss,
        ),
        (Model(head={}), torch.ones(2, 17, 8, 6), FeatureLoss),
        (
            Model(head={}),
            (torch.ones(2, 17, 384), torch.ones(2, 17, 512)),
            LogitsLoss,
        ),
        (Model(cls_head={}), torch.ones(2, 400), LogitsLoss),
        (Model(), torch.ones(2, 4), FeatureLoss),
    ],
)
def test_the_loss_is_chosen_by_the_output(model, output, kind):
    found = loss_for(model, output)
    assert type(found) is kind
    if kind is DenseDetectorLoss:
        assert found.num_priors == 2


def test_losses_of_others_can_be_registered():
    assert DISTILL_LOSSES.get('FeatureLoss') is FeatureLoss


def boxes(*corners, label=0):
    return BaseDataElement(
        pred_instances=InstanceData(
            bboxes=torch.tensor(corners, dtype=torch.float32).view(-1, 4),
            scores=torch.linspace(0.9, 0.8, len(corners)),
            labels=torch.full((len(corners),), label),
        )
    )


def test_boxes_agree_with_themselves_and_not_with_others():
    pytest.importorskip('pycocotools')
    dense = [boxes([0, 0, 20, 30], [40, 0, 60, 30]), boxes([0, 0, 20, 30])]
    away = [boxes([100, 100, 120, 130])] * 2
    assert agreement(dense, dense) == ('AP50', pytest.approx(100))
    assert agreement(dense, away) == ('AP50', pytest.approx(0))
    half = [dense[0], boxes()]
    assert 0 < agreement(dense, half)[1] < 100
    assert all(map(math.isnan, average_precisions([], [], [0])))


def keypoints(shift=0.0, score=1.0):
    return BaseDataElement(
        pred_instances=InstanceData(
            bboxes=np.array([[0, 0, 100, 200]], np.float32),
            keypoints=np.full((1, 4, 2), 50.0) + shift,
            keypoint_scores=np.full((1, 4), score),
        )
    )


@pytest.mark.parametrize(('shift', 'near'), [(0, 100), (7, 100), (8, 0)])
def test_keypoints_are_near_within_a_twentieth_of_the_box(shift, near):
    found = agreement([keypoints()], [keypoints(shift)])
    assert found == ('keypoints', near)
    assert math.isnan(agreement([keypoints(score=0.1)], [keypoints()])[1])


def box(frame, left, score=1.0, label=0):
    return dict(
        image_id=frame,
        category_id=label,
        bbox=[left, 0, 10, 20],
        score=score,
    )


def test_precision_looks_at_the_given_frames_and_classes_only():
    pytest.importorskip('pycocotools')
    truth = [box(3, 0), box(4, 50), box(9, 0)]
    found = [box(3, 1), box(4, 50), box(4, 50, label=7)]

    ap, ap50 = average_precisions(truth, found, range(3, 5))
    assert ap50 == pytest.approx(100)
    assert ap < 100
    assert average_precisions(truth, found, range(3, 10))[1] < 70
    assert average_precisions(truth, [], range(3, 5)) == (0, 0)
    assert math.isnan(average_precisions([], found, range(3, 5))[1])


def test_clips_agree_whose_best_class_is_the_same():
    samples = [
        [BaseDataElement(pred_score=torch.tensor(x)) for x in scores]
        for scores in (
            [[0.1, 0.9], [0.6, 0.4], [0.2, 0.8]],
            [[0.4, 0.6], [0.7, 0.3], [0.9, 0.1]],
        )
    ]
    measure, value = agreement(*samples)
    assert measure == 'top-1'
    assert value == pytest.approx(200 / 3)

"""Frame-mAP, recall and classification accuracy in closed form."""

import numpy as np
import pytest
import torch

pytest.importorskip('mmdet')

from mmskip.evaluation import FrameMAP

HERE, THERE = (0, 0, 10, 10), (50, 50, 60, 60)


def frame(truth, found, factor=None):
    """A frame of ``(box, label)`` and ``(box, label, score)``."""
    sample = dict(
        gt_instances=dict(
            bboxes=torch.tensor([b for b, _ in truth]).view(-1, 4).float(),
            labels=torch.tensor([n for _, n in truth]).long(),
        ),
        pred_instances=dict(
            bboxes=torch.tensor([b for b, *_ in found]).view(-1, 4).float(),
            labels=torch.tensor([n for _, n, _ in found]).long(),
            scores=torch.tensor([s for *_, s in found]).float(),
        ),
    )
    return sample if factor is None else dict(sample, scale_factor=factor)


def measure(*frames, classes=('run', 'walk', 'wave'), **options):
    metric = FrameMAP(**options)
    metric.dataset_meta = dict(classes=classes) if classes else {}
    metric.process({}, frames)
    figures = metric.evaluate(len(frames))
    return {name.split('/')[1]: value for name, value in figures.items()}


def test_all_right_is_100():
    frames = [
        frame([(HERE, 0)], [(HERE, 0, 0.9)]),
        frame([(THERE, 2)], [(THERE, 2, 0.8)]),
    ]
    for classes in (('run', 'walk', 'wave'), None):
        assert measure(*frames, classes=classes) == pytest.approx(
            dict(mAP=100, recall=100, classification=100)
        )


def test_nothing_found_is_0():
    assert measure(frame([(HERE, 0)], []), frame([(HERE, 1)], [])) == dict(
        mAP=0, recall=0, classification=0
    )


def test_a_wrong_class_costs_map_but_no_recall():
    figures = measure(
        frame([(HERE, 0)], [(HERE, 1, 0.9)]),
        frame([(HERE, 1)], [(HERE, 1, 0.8)]),
    )
    # Class 0: nothing found. Class 1: a false alarm, then the hit: 1 / 2.
    assert figures == pytest.approx(
        dict(mAP=(0 + 50) / 2, recall=100, classification=50)
    )


def test_classes_that_do_not_occur_are_left_out_of_the_mean():
    figures = measure(
        frame([(HERE, 0)], [(HERE, 0, 0.9), (THERE, 2, 0.9)]), per_class=True
    )
    assert figures['mAP'] == figures['AP_run'] == pytest.approx(100)
    assert 'AP_wave' not in figures


def test_precision_is_that_of_the_ranking_over_all_frames():
    """Hit, false alarm, hit of two boxes: (1 + 2/3) / 2."""
    figures = measure(
        frame([(HERE, 0)], [(HERE, 0, 0.9)]),
        frame([], [(HERE, 0, 0.8)]),
        frame([(HERE, 0)], [(HERE, 0, 0.7)]),
    )
    assert figures['mAP'] == pytest.approx(100 * (1 + 2 / 3) / 2)


@pytest.mark.parametrize(('shift', 'hit'), [(3, 100), (4, 0)])
def test_a_hit_needs_the_iou(shift, hit):
    """Two 10 x 10 boxes, shifted: IoU 7 / 13 or 6 / 14."""
    found = [((shift, 0, 10 + shift, 10), 0, 0.9)]
    assert measure(frame([(HERE, 0)], found)) == pytest.approx(
        dict(mAP=hit, recall=hit, classification=hit)
    )


def test_the_box_of_highest_iou_decides_the_class_then_the_score():
    near = (1, 0, 11, 10)
    figures = measure(
        frame([(HERE, 0)], [(near, 1, 0.9), (HERE, 0, 0.3)]),
        frame([(HERE, 0)], [(HERE, 1, 0.3), (HERE, 0, 0.4)]),
        frame([(HERE, 0)], [(HERE, 0, 0.4), (HERE, 1, 0.3)]),
    )
    assert figures['classification'] == 100


def test_low_scores_do_not_count():
    frames = [frame([(HERE, 0)], [(HERE, 0, 0.2)])]
    assert measure(*frames, score_thr=0.2)['recall'] == 100
    assert measure(*frames, score_thr=0.21) == dict(
        mAP=0, recall=0, classification=0
    )


def test_ground_truth_is_brought_to_the_size_of_the_frame():
    large = (0, 0, 20, 30)
    factor = np.array([2.0, 3.0])
    figures = measure(frame([(large, 0)], [(HERE, 0, 0.9)], factor))
    assert figures['recall'] == 100


def test_other_numbers_of_classes_are_refused():
    with pytest.raises(ValueError, match='3 classes, got 3; set num_classes'):
        measure(frame([(HERE, 0)], [(HERE, 3, 0.9)]))


def test_samples_without_detections_are_refused():
    with pytest.raises(KeyError, match='measures detectors'):
        FrameMAP().process({}, [dict(pred_score=1)])


@pytest.mark.parametrize('option', ['iou_thr', 'score_thr'])
def test_thresholds_are_shares(option):
    with pytest.raises(ValueError, match='expected iou_thr in'):
        FrameMAP(**{option: 1.5})

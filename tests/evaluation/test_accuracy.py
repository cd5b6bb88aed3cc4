"""mAP and top-1 of data samples."""

import math

import pytest
import torch

from mmskip.evaluation import ActionAccuracy


def sample(scores, label, **meta):
    return dict(
        pred_score=torch.tensor(scores),
        gt_label=torch.as_tensor(label),
        **meta,
    )


def evaluate(samples, **options):
    metric = ActionAccuracy(**options)
    for one in samples:
        metric.process(None, [one])
    return metric.evaluate(len(samples))


SINGLE = [
    sample([0.7, 0.2, 0.1], [0]),
    sample([0.6, 0.3, 0.1], [1]),
    sample([0.5, 0.4, 0.1], [0]),
]


def test_classes_without_positives_do_not_count():
    found = evaluate(SINGLE)
    # Class 0 is found at ranks 1 and 3, class 1 at rank 2, class 2 never.
    plain = 100 * ((1 + 2 / 3) / 2 + 1 / 2) / 2
    assert found['acc/mAP_plain'] == pytest.approx(plain)
    assert found['acc/top1'] == pytest.approx(200 / 3)
    assert found['acc/broken'] == 0


@pytest.mark.parametrize('variant', ['plain', 'interpolated'])
def test_the_chosen_variant_is_reported(variant):
    found = evaluate(
        [sample([0.9], [0.0]), sample([0.8], [1.0]), sample([0.7], [1.0])],
        mAP=variant,
    )
    assert found['acc/mAP'] == found[f'acc/mAP_{variant}']
    assert found['acc/mAP_plain'] == pytest.approx(100 * (1 / 2 + 2 / 3) / 2)
    assert found['acc/mAP_interpolated'] == pytest.approx(200 / 3)


def test_interpolated_is_the_default():
    assert ActionAccuracy().variant == 'interpolated'


def test_several_labels_come_as_ones_or_as_indices():
    scores = ([0.1, 0.2, 0.7], [0.6, 0.3, 0.1])
    ones = evaluate(
        [sample(scores[0], [0.0, 1.0, 1.0]), sample(scores[1], [1.0, 0, 0])]
    )
    indices = evaluate([sample(scores[0], [1, 2]), sample(scores[1], [0])])
    assert ones == indices
    assert ones['acc/top1'] == 100


def test_videos_without_labels_are_negatives_and_no_misses():
    with_background = [*SINGLE, sample([0.9, 0.0, 0.1], [0.0, 0.0, 0.0])]
    found = evaluate(with_background)
    assert found['acc/top1'] == pytest.approx(200 / 3)
    assert found['acc/mAP'] < evaluate(SINGLE)['acc/mAP']


def test_broken_videos_are_left_out_and_counted():
    broken = sample([0, 1.0, 0], [0], broken='no frame', video_id='x.mp4')
    found = evaluate([*SINGLE, broken])
    assert found.pop('acc/broken') == 1
    expected = evaluate(SINGLE)
    del expected['acc/broken']
    assert found == expected


def test_without_any_label_there_is_no_figure():
    found = evaluate([sample([0.9, 0.1], [0.0, 0.0])])
    assert math.isnan(found['acc/mAP'])
    assert math.isnan(found['acc/top1'])


@pytest.mark.parametrize(
    ('bad', 'error', 'match'),
    [
        (sample([0.1, 0.9], [2]), ValueError, r'labels 0..1.* got \[2\]'),
        (sample([0.1, 0.9], [0.0, 1, 0]), ValueError, 'got 3'),
        (sample([math.nan, 0.9], [0]), ValueError, 'finite'),
        (sample([[0.1, 0.9]], [0]), TypeError, 'average_clips'),
        (dict(gt_label=torch.tensor([0])), TypeError, 'pred_score'),
    ],
)
def test_what_does_not_fit_is_refused(bad, error, match):
    with pytest.raises(error, match=match):
        ActionAccuracy().process(None, [bad])


def test_all_broken_is_an_error():
    with pytest.raises(RuntimeError, match='none of 1'):
        evaluate([sample([1.0], [0], broken='no frame', video_id='x')])


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="got 'area'"):
        ActionAccuracy(mAP='area')

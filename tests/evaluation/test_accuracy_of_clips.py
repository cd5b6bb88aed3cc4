"""clip-1, video-1 and video-5."""

import json

import pytest
import torch

from mmskip.evaluation import ClipAccuracy

# mmaction2's ThreeCrop and FormatShape: left crop of both clips, right crop
# of both, centre crop of both.
VIEWS = 6
ONE_VIEW = 5


def sample(scores, label=0, name='a.mp4', **more):
    scores = torch.as_tensor(scores, dtype=torch.float32)
    label = torch.tensor([label])
    return dict(pred_score=scores, gt_label=label, filename=name, **more)


def views(best, others, classes=8):
    """Scores in which one view has a best class and the others another."""
    scores = torch.zeros(VIEWS, classes)
    scores[:, others] = 1.0
    scores[ONE_VIEW] = 0.0
    scores[ONE_VIEW, best] = 1.0
    return scores


def evaluate(samples, **options):
    metric = ClipAccuracy(**options)
    metric.dataset_meta = dict(classes=['x', 'y'])
    metric.process(None, samples)
    return metric.evaluate(len(samples))


def test_clip_1_looks_at_the_centre_of_the_middle_clip_only():
    found = evaluate([sample(views(best=3, others=1), label=3)])
    assert found['acc/clip-1'] == 100
    assert found['acc/video-1'] == 0
    found = evaluate([sample(views(best=3, others=1), label=1)])
    assert found['acc/clip-1'] == 0
    assert found['acc/video-1'] == 100


@pytest.mark.parametrize(('clips', 'view'), [(1, 0), (3, 1), (10, 5)])
def test_with_one_crop_it_is_the_middle_clip(clips, view):
    scores = torch.zeros(clips, 4)
    scores[view, 2] = 1
    found = evaluate([sample(scores, label=2)], num_crops=1)
    assert found['acc/clip-1'] == 100


def test_views_are_averaged_as_probabilities():
    # One view that is very sure outweighs two as scores, not as softmax.
    scores = torch.tensor([[9.0, 0, 0], [0, 3, 0], [0, 3, 0]])
    assert scores.mean(0).argmax() == 0
    assert evaluate([sample(scores, label=1)])['acc/video-1'] == 100


def test_video_5_takes_the_best_five():
    scores = torch.arange(8.0).repeat(3, 1)
    found = [
        evaluate([sample(scores, label=label)])['acc/video-5']
        for label in range(8)
    ]
    assert found == [0, 0, 0, 100, 100, 100, 100, 100]


def test_groups_are_reported_apart(tmp_path):
    (tmp_path / 'groups.json').write_text('{"a": "slow", "b": "fast"}')
    found = evaluate(
        [
            sample(views(0, 0), 0, 'v/a.mp4'),
            sample(views(0, 1), 0, 'v/b.mp4'),
        ],
        groups=str(tmp_path / 'groups.json'),
    )
    assert found['acc/clip-1_fast'] == found['acc/clip-1_slow'] == 100
    assert found['acc/video-1_slow'] == 100
    assert found['acc/video-1_fast'] == 0
    assert found['acc/video-1'] == 50


def test_every_video_is_in_the_file(tmp_path):
    path = tmp_path / 'new' / 'videos.json'
    evaluate([sample(views(3, 1), label=3)], out_file=str(path))
    report = json.loads(path.read_text())
    (video,) = report['videos']
    assert (video['video'], video['labels']) == ('a.mp4', [3])
    assert (video['clip'], video['best'][0]) == (3, 1)
    assert sum(video['scores']) == pytest.approx(1)
    assert report['figures']['clip-1'] == 100
    assert report['classes'] == ['x', 'y']


def test_broken_videos_are_counted_and_left_out():
    broken = dict(sample(views(0, 0), 1), broken='no such frame')
    found = evaluate([sample(views(0, 0)), broken])
    assert found['acc/broken'] == 1
    assert found['acc/clip-1'] == 100
    with pytest.raises(RuntimeError, match='none of 1'):
        evaluate([broken])


def test_what_does_not_fit_is_refused():
    with pytest.raises(TypeError, match='average_clips=None'):
        evaluate([sample(torch.zeros(8))])
    with pytest.raises(ValueError, match='num_crops'):
        evaluate([sample(torch.zeros(4, 8))])
    with pytest.raises(ValueError, match='num_crops 1 or 3'):
        ClipAccuracy(num_crops=10)

"""Cost per video and use of frames."""

import json

import pytest
import torch
from torch import nn

from mmskip import count_macs
from mmskip.evaluation import VideoCost

GIGA = 10**9


def sample(name='v', stops=None, **more):
    made = dict(
        video_id=name,
        pred_score=torch.tensor([0.75, 0.25]),
        gt_label=torch.tensor([0]),
        **more,
    )
    if stops is not None:
        made['sof_stops'] = torch.tensor(stops)
    return made


def batch(count, frames=4):
    return dict(inputs=[torch.zeros(frames, 3, 2, 2)] * count)


class Clock:
    """A stopwatch that shows given times."""

    def __init__(self, *seconds):
        self.seconds = list(seconds)

    def stop(self):
        return self.seconds.pop(0)


def test_figures_are_means_over_videos(tmp_path):
    metric = VideoCost(num_places=2, out_file=str(tmp_path / 'a' / 'v.json'))
    metric.dataset_meta = dict(classes=['x', 'y'])
    metric.stopwatch = Clock(9.0, 0.25, 0.75)
    for stops, macs in (
        ([2, 2, 0, 1], 4 * GIGA),
        ([0, 0, 2, -1], 2 * GIGA),
        ([2, -1, -1, -1], GIGA),
    ):
        metric.process(
            batch(1), [sample(stops=stops, sof_macs=macs, sof_exit=3)]
        )
    found = metric.evaluate(3)
    assert found == {
        'cost/gmac_per_video': pytest.approx(7 / 3),
        'cost/gmac_per_frame': pytest.approx(7 / 12),
        'cost/ms_per_video': 500,  # the first batch is warm-up
        'cost/median_ms': 500,
        'cost/used': pytest.approx(100 * 4 / 12),
        'cost/stop_1': pytest.approx(100 * 3 / 12),
        'cost/stop_2': pytest.approx(100 * 1 / 12),
        'cost/unseen': pytest.approx(100 * 4 / 12),
        'cost/videos': 3,
    }
    report = json.loads((tmp_path / 'a' / 'v.json').read_text())
    assert report['classes'] == ['x', 'y']
    assert report['num_places'] == 2
    assert report['videos'][1] == dict(
        video='v',
        dense_macs=None,  # no ledger told
        labels=[0],
        scores=[0.75, 0.25],
        stops=[0, 0, 2, -1],
        exit=3,
        macs=2 * GIGA,
        batch_size=1,
        ms=250,
    )


def test_macs_come_from_the_ledger_batch_by_batch():
    net = nn.Conv2d(3, 5, 1, bias=False)
    metric = VideoCost()
    with count_macs(net) as metric.ledger:
        for videos in (1, 2):
            inputs = batch(videos)['inputs']
            net(torch.cat(inputs))
            samples = [sample(str(n)) for n in range(videos)]
            metric.process(dict(inputs=inputs), samples)
        # 4 frames of 2 x 2 pixels, 3 x 5 MACs each.
        assert [r['macs'] for r in metric.results] == [240.0] * 3
        found = metric.evaluate(3)
    assert found['cost/gmac_per_video'] == pytest.approx(240 / GIGA)
    assert found['cost/gmac_per_frame'] == pytest.approx(60 / GIGA)


def test_a_model_that_stops_no_frame_uses_all():
    metric = VideoCost(num_places=5)
    metric.process(batch(1), [sample(sof_macs=1)])
    found = metric.evaluate(1)
    assert found['cost/used'] == 100
    assert found['cost/stop_5'] == found['cost/unseen'] == 0
    assert metric.results == []


def test_without_a_watch_there_is_no_time():
    metric = VideoCost()
    metric.process(batch(1), [sample(sof_macs=1)])
    assert not [name for name in metric.evaluate(1) if 'ms' in name]


def test_times_of_larger_batches_are_called_so():
    metric = VideoCost(warmup=0)
    metric.stopwatch = Clock(0.5)
    metric.process(
        batch(2), [sample('a', sof_macs=1), sample('b', sof_macs=1)]
    )
    with pytest.warns(UserWarning, match='batches of up to 2'):
        assert metric.evaluate(2)['cost/ms_per_video'] == 250


def test_broken_videos_are_left_out():
    metric = VideoCost()
    metric.process(batch(1), [sample('a', sof_macs=1)])
    metric.process(batch(1), [sample('b', sof_macs=9, broken='no frame')])
    found = metric.evaluate(2)
    assert found['cost/videos'] == 1
    assert found['cost/gmac_per_video'] == 1 / GIGA


@pytest.mark.parametrize('stops', [[0, 1, 2, 3], [-2, 0, 0, 0]])
def test_stops_that_are_no_places_are_refused(stops):
    with pytest.raises(ValueError, match=r'-1..num_places=2 of v'):
        VideoCost(num_places=2).process(
            batch(1), [sample(stops=stops, sof_macs=1)]
        )


def test_stops_need_the_number_of_places():
    with pytest.raises(ValueError, match='num_places=None'):
        VideoCost().process(batch(1), [sample(stops=[0], sof_macs=1)])


def test_macs_must_come_from_somewhere():
    with pytest.raises(RuntimeError, match='VideoHook'):
        VideoCost().process(batch(1), [sample()])


def test_videos_of_different_lengths_are_refused():
    metric = VideoCost()
    metric.process(batch(1, 4), [sample(sof_macs=1)])
    metric.process(batch(1, 3), [sample(sof_macs=1)])
    with pytest.raises(ValueError, match=r'\[3, 4\]'):
        metric.evaluate(2)


@pytest.mark.parametrize('option', [dict(num_places=0), dict(warmup=-1)])
def test_options_out_of_range_are_refused(option):
    with pytest.raises(ValueError, match='expected'):
        VideoCost(**option)

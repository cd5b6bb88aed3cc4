"""GMAC of clips and clips per second."""

import json

import pytest
import torch

from mmskip.evaluation import ClipCost

GIGA = 10**9


class Watch:
    """Every batch takes as long."""

    def __init__(self, seconds):
        self.seconds = seconds

    def stop(self):
        return self.seconds


def sample(*macs, name='a.mp4', **more):
    return dict(
        clip_macs=torch.tensor(macs) * GIGA,
        clip_dense_macs=torch.full((len(macs),), 12) * GIGA,
        filename=name,
        **more,
    )


def evaluate(*batches, watch=None, **options):
    metric = ClipCost(**options)
    metric.stopwatch = watch
    for batch in batches:
        metric.process(None, batch)
    return metric.evaluate(sum(map(len, batches)))


def test_every_view_counts_once():
    found = evaluate([sample(1, 2, 6), sample(3)])
    assert found['cost/gmac_per_clip'] == 3
    assert (found['cost/max_gmac'], found['cost/min_gmac']) == (6, 1)
    assert found['cost/clips'] == 4
    assert found['cost/dense_gmac_per_clip'] == 12
    assert found['cost/reduction'] == pytest.approx(4)
    assert 'cost/clips_per_second' not in found


def test_clips_per_second_leaves_out_the_first_batches():
    batches = [[sample(1, 1)], [sample(1, 1), sample(1, 1)], [sample(1, 1)]]
    found = evaluate(*batches, watch=Watch(0.5))
    assert found['cost/clips_per_second'] == pytest.approx(6 / 1.0)
    found = evaluate(*batches, watch=Watch(0.5), warmup=0)
    assert found['cost/clips_per_second'] == pytest.approx(8 / 1.5)


def test_groups_are_reported_apart(tmp_path):
    (tmp_path / 'groups.json').write_text('{"a": "slow", "b": "fast"}')
    found = evaluate(
        [sample(1, 2, name='v/a.mp4'), sample(3, 6, name='v/b.mp4')],
        groups=str(tmp_path / 'groups.json'),
        out_file=str(tmp_path / 'new' / 'cost.json'),
    )
    assert found['cost/gmac_slow'] == 1.5
    assert found['cost/gmac_fast'] == 4.5
    report = json.loads((tmp_path / 'new/cost.json').read_text())
    assert [video['group'] for video in report['videos']] == ['slow', 'fast']
    assert report['videos'][1]['macs'] == [3 * GIGA, 6 * GIGA]


def test_broken_videos_cost_nothing_that_is_reported():
    found = evaluate([sample(1), sample(9, broken='no such frame')])
    assert found['cost/max_gmac'] == 1
    with pytest.raises(RuntimeError, match='got none'):
        evaluate([sample(9, broken='no such frame')])


def test_a_second_evaluation_warms_up_again():
    metric = ClipCost()
    metric.stopwatch = Watch(1.0)
    for _ in range(2):
        metric.process(None, [sample(1)])
        metric.process(None, [sample(1)])
        assert metric.evaluate(2)['cost/clips_per_second'] == 1.0


def test_without_a_count_the_hook_is_named():
    with pytest.raises(RuntimeError, match=r'mmskip\.ClipCostHook'):
        evaluate([dict(filename='a.mp4')])
    with pytest.raises(ValueError, match='warmup'):
        ClipCost(warmup=-1)

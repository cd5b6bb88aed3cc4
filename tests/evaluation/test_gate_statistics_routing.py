"""What is read from recorded routing."""

import pytest
import torch
from torch import nn

import mmskip
from mmskip.evaluation.gate_statistics import (
    ClipRouting,
    ExtremeClips,
    cost_distribution,
    join_routing,
    read_routing,
    share_by_class,
)


class Net(nn.Module):
    """One dynamic layer and a classifier."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(3, 8, 3, padding=1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3, 4)))


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = Net()
    mmskip.convert(model, mmskip.DynamicConversion())
    return model.eval()


def read(model, clips, time, channels):
    with (
        mmskip.force_routing(model, time, channels),
        mmskip.record_routing(model) as record,
        torch.no_grad(),
    ):
        model(torch.randn(clips, 3, 4, 8, 8))
    return read_routing(record)


def test_shares_are_those_that_were_computed(model):
    found = read(model, 2, time=1, channels=0)
    assert found.shares['time']['conv'].tolist() == [0.5, 0.5]
    assert found.shares['channels']['conv'].tolist() == [1, 1]
    found = read(model, 2, time=0, channels=1)
    assert found.shares['channels']['conv'].tolist() == [0.5, 0.5]


def test_the_ratio_is_of_the_dynamic_layers_alone(model):
    half = read(model, 3, time=1, channels=0)
    dense = 27 * 3 * 8 * 4 * 64
    spent = half.macs - 8 * 4  # without the classifier
    assert half.ratio.tolist() == pytest.approx((spent / dense).tolist())
    assert 0.5 < half.ratio[0] < 0.6
    full = read(model, 3, time=0, channels=0)
    assert 1 < full.ratio[0] < 1.1


def test_nothing_ran_is_said(model):
    with mmskip.record_routing(model) as record:
        pass
    with pytest.raises(ValueError, match='got no clip'):
        read_routing(record)


def make_routing(time, macs):
    return ClipRouting(
        dict(
            time=dict(a=torch.tensor(time)),
            channels=dict(a=torch.ones(len(time))),
        ),
        torch.tensor(macs),
        torch.ones(len(time)),
    )


def test_parts_are_put_behind_each_other(model):
    joined = join_routing(
        [read(model, 2, 1, 0), read(model, 1, 0, 0), read(model, 2, 1, 0)]
    )
    assert joined.shares['time']['conv'].tolist() == [0.5, 0.5, 1, 0.5, 0.5]
    assert len(joined.macs) == len(joined.ratio) == 5


def test_a_class_has_the_mean_of_its_clips():
    found = make_routing([1.0, 0.5, 0.25, 0.5], [1, 1, 1, 1])
    rows = share_by_class(found, [3, 0, 0, 3])
    assert [(r['label'], r['clips'], r['time']) for r in rows] == [
        (0, 2, 0.375),
        (3, 2, 0.75),
    ]
    assert {row['channels'] for row in rows} == {1.0}


def test_every_clip_is_in_one_range_of_cost():
    macs = [10**9, 10**9, 2 * 10**9, 5 * 10**9]
    rows = cost_distribution(macs, (10**9, 5 * 10**9), bins=4)
    assert [row['share'] for row in rows] == [0.5, 0.25, 0, 0.25]
    assert (rows[0]['gmac_from'], rows[-1]['gmac_to']) == (1, 5)
    assert rows[1]['gmac_from'] == rows[0]['gmac_to'] == 2


def test_groups_have_the_ranges_of_all():
    limits = (10**9, 5 * 10**9)
    rows = cost_distribution([2 * 10**9], limits, bins=4)
    assert [row['share'] for row in rows] == [0, 1, 0, 0]


def test_clips_of_one_cost_are_one_range():
    assert cost_distribution([10**9] * 3, (10**9, 10**9)) == [
        dict(gmac_from=1.0, gmac_to=1.0, share=1.0)
    ]


def test_extremes_are_kept_as_clips_come():
    extremes = ExtremeClips()
    costs = {'a': (0, 5), 'b': (1, 2), 'c': (0, 3), 'd': (0, 9), 'e': (0, 3)}
    for name, (label, macs) in costs.items():
        extremes.add(dict(label=label, macs=macs, name=name))
    found = {
        label: [clip['name'] for clip in pair]
        for label, pair in extremes.by_label.items()
    }
    assert found == {0: ['c', 'd'], 1: ['b', 'b']}

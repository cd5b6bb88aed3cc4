"""Similarity of feature maps."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from mmskip.evaluation import redundancy
from mmskip.evaluation.redundancy import (
    RedundancyMeter,
    Thresholds,
    compare_maps,
    watch_feature_maps,
)

DEFAULT = Thresholds(0.85, 0.001)


def means(maps, thresholds=DEFAULT):
    found = compare_maps(maps, thresholds)
    return {name: (a / b).tolist() for name, (a, b) in found.items()}


def test_pairs_are_those_of_numpy():
    maps = torch.randn(2, 5, 30, dtype=torch.float64) * 3 + 100
    found = means(maps)
    for group in range(2):
        array = maps[group].numpy()
        pairs = [(i, j) for i in range(5) for j in range(i + 1, 5)]
        table = np.corrcoef(array)
        cc = np.mean([table[pair] for pair in pairs])
        rmse = [np.sqrt(np.mean((array[i] - array[j]) ** 2)) for i, j in pairs]
        assert found['cc'][group] == pytest.approx(cc)
        assert found['rmse'][group] == pytest.approx(np.mean(rmse))


def test_maps_that_differ_by_scale_and_offset_correlate_perfectly():
    one = torch.randn(20)
    found = means(torch.stack([one, 2 * one + 1, -one])[None])
    assert found['cc'][0] == pytest.approx((1 - 1 - 1) / 3)
    assert found['rp'][0] == pytest.approx(1 / 3)
    assert found['rp_close'][0] == 0


def test_equal_maps_are_close_and_not_above_the_rmse():
    one = torch.randn(20)
    maps = torch.stack([one, one, one + 1e-4])[None]
    found = means(maps)
    assert found['rp_close'][0] == 1
    assert found['rp'][0] == 0


def test_a_map_of_one_value_has_no_correlation_but_an_rmse():
    one = torch.randn(20)
    maps = torch.stack([one, one + 1, torch.full((20,), 7.0)])[None]
    sums = compare_maps(maps, DEFAULT)
    assert sums['cc'][1].tolist() == [1]
    assert sums['cc'][0].item() == pytest.approx(1)
    assert sums['rmse'][1].tolist() == [3]


def still(frames=4, channels=3):
    """Maps that do not change in time and are unlike across channels."""
    maps = torch.randn(2, channels, 1, 6, 6)
    return maps.expand(2, channels, frames, 6, 6)


def by_axis(meter):
    return {row['axis']: row for row in meter.rows() if row['layer'] == 'mean'}


def test_a_still_clip_is_redundant_along_time_only():
    meter = RedundancyMeter()
    meter.add('a', still())
    found = by_axis(meter)
    assert found['time']['cc'] == pytest.approx(1)
    assert found['time']['rmse'] == pytest.approx(0, abs=1e-6)
    assert abs(found['channels']['cc']) < 0.5
    meter = RedundancyMeter()
    meter.add('a', still().transpose(1, 2))
    found = by_axis(meter)
    assert found['channels']['cc'] == pytest.approx(1)
    assert abs(found['time']['cc']) < 0.5


def test_batches_and_chunks_make_no_difference(monkeypatch):
    maps = torch.randn(6, 3, 4, 5, 5)
    at_once, in_parts = RedundancyMeter(), RedundancyMeter()
    at_once.add('a', maps)
    monkeypatch.setattr(redundancy, 'MOST_PAIRS', 20)
    for part in maps.split(2):
        in_parts.add('a', part)
    for one, other in zip(at_once.rows(), in_parts.rows(), strict=True):
        for key in ('cc', 'rmse', 'cc_min', 'rmse_max'):
            assert one[key] == pytest.approx(other[key])


def test_ranges_are_those_of_samples():
    meter = RedundancyMeter()
    meter.add('a', torch.cat([still()[:1], torch.randn(1, 3, 4, 6, 6)]))
    row = meter.rows()[0]
    assert row['layer'] == 'a'
    assert row['cc_max'] == pytest.approx(1)
    assert abs(row['cc_min']) < 0.5
    assert row['cc'] == pytest.approx((row['cc_min'] + row['cc_max']) / 2)


def test_every_layer_counts_the_same_in_the_mean():
    meter = RedundancyMeter()
    meter.add('a', still())
    meter.add('b', still(channels=5))
    meter.add('b', still(channels=5))
    rows = [row for row in meter.rows() if row['axis'] == 'channels']
    a, b, mean = (row['rmse'] for row in rows)
    assert mean == pytest.approx((a + b) / 2)


def test_few_positions_estimate_all():
    torch.manual_seed(0)
    mix = torch.rand(1, 4, 1, 1, 1) + torch.randn(1, 1, 3, 40, 40)
    maps = mix + 0.5 * torch.randn(1, 4, 3, 40, 40)
    found = []
    for positions in (None, 400):
        meter = RedundancyMeter(most_positions=positions)
        meter.add('a', maps)
        found.append(by_axis(meter)['channels'])
    assert found[0]['cc'] != found[1]['cc']
    assert found[0]['cc'] == pytest.approx(found[1]['cc'], abs=0.05)
    with pytest.raises(ValueError, match='most_positions'):
        RedundancyMeter(most_positions=1)


def test_maps_of_one_position_frame_or_channel_are_left_out():
    meter = RedundancyMeter()
    meter.add('a', torch.randn(1, 3, 4, 1, 1))
    meter.add('b', torch.randn(1, 3, 1, 4, 4))
    meter.add('c', torch.randn(1, 1, 3, 4, 4))
    found = [(r['axis'], r['layer']) for r in meter.rows()]
    assert found == [
        ('time', 'c'),
        ('time', 'mean'),
        ('channels', 'b'),
        ('channels', 'mean'),
    ]


def test_every_convolution_is_watched_inside_the_block_only():
    model = nn.Sequential(
        nn.Conv3d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 2, 1)
    )
    meter = RedundancyMeter()
    with watch_feature_maps(model, meter):
        model(torch.randn(1, 3, 4, 8, 8))
    assert list(meter.layers) == ['0', '2']
    before = meter.rows()
    model(torch.randn(1, 3, 4, 8, 8))
    assert meter.rows() == before


def test_frames_of_2d_models_are_folded_clip_by_clip():
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    clip = torch.randn(2, 1, 3, 8, 8).expand(2, 5, 3, 8, 8)
    meter = RedundancyMeter()
    with watch_feature_maps(model, meter, frames=5):
        model(clip.flatten(0, 1))
    assert by_axis(meter)['time']['cc'] == pytest.approx(1)
    watch = watch_feature_maps(model, meter)
    with pytest.raises(ValueError, match='number of frames'), watch:
        pass


def test_nothing_known_is_not_a_number():
    meter = RedundancyMeter()
    meter.add('a', torch.zeros(1, 3, 4, 5, 5))
    row = meter.rows()[0]
    assert math.isnan(row['cc'])
    assert row['rmse'] == 0

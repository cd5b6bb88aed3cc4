import pytest
from mmengine.config import Config

import mmskip
from mmskip.apis.calibration import (
    calibrated_conversions,
    is_norm_gated,
    layer_groups,
    rounded,
    write_calibrated,
)
from mmskip.evaluation import norm_gates
from tests.helpers.nets import TinyNet

GATE = dict(type='mmskip.OutputNormGate', threshold=0.5, block_size=4)


@pytest.mark.parametrize('count', [1, 3, 7, 99])
def test_groups_are_runs_of_neighbours_that_leave_no_layer_out(count):
    names = [f'layer{i}' for i in range(7)]
    groups = layer_groups(names, count)
    assert [name for group in groups for name in group] == names
    assert len(groups) == min(count, 7)
    sizes = {len(group) for group in groups}
    assert max(sizes) - min(sizes) <= 1


def test_the_written_config_rebuilds_gates_memory_and_motion(tmp_path):
    motion = dict(type='mmskip.HomographyMotion')
    given = dict(
        type='mmskip.SkipConversion',
        gate=GATE,
        memory='accumulated',
        motion=motion,
        exclude='classifier',
    )
    options = {k: v for k, v in given.items() if k not in ('type', 'exclude')}
    net = TinyNet()
    mmskip.convert(net, mmskip.SkipConversion(**options))
    thresholds = rounded(dict(stem=0.123456, body=0.5, head=0.5))
    base = tmp_path / 'base.py'
    base.write_text('model = dict(conversions=[1])\n')
    path = tmp_path / 'new' / 'calibrated.py'
    entries = calibrated_conversions(net, [given], thresholds)
    write_calibrated(path, str(base), entries)
    again = TinyNet()
    (entry,) = Config.fromfile(path).model.conversions
    assert len(entries) == 1
    assert entry.pop('type') == 'mmskip.SkipConversion'
    mmskip.convert(again, mmskip.SkipConversion(**entry))
    gates = norm_gates(again)
    assert {n: gate.threshold for n, gate in gates.items()} == dict(
        stem=0.1235, body=0.5, head=0.5
    )
    assert {gate.block_size for gate in gates.values()} == {4}
    assert again.stem.memory == 'accumulated'
    # One estimate serves all layers.
    assert again.stem.motion == again.head.motion is not None


def test_layers_without_a_threshold_stay_dense():
    gate = {k: v for k, v in GATE.items() if k != 'threshold'}
    net = TinyNet()
    report = mmskip.convert(
        net, mmskip.SkipConversion(gate, thresholds=dict(stem=0.1, head=0.2))
    )
    assert report.converted == ['stem', 'head']
    assert report.left_dense['body'] == 'there is no threshold for it'
    assert (net.stem.gate.threshold, net.head.gate.threshold) == (0.1, 0.2)


def test_a_threshold_for_no_layer_is_refused():
    skip = mmskip.SkipConversion(GATE, thresholds=dict(stem=0.1, stern=0.2))
    with pytest.raises(ValueError, match=r'settings for stern.*no such layer'):
        mmskip.convert(TinyNet(), skip)


def test_thresholds_are_for_norm_gates():
    gate = dict(type='mmskip.GumbelGate')
    with pytest.raises(TypeError, match='threshold'):
        mmskip.SkipConversion(gate, thresholds=dict(stem=0.1))


def test_norm_gates_are_told_from_learned_ones():
    assert is_norm_gated(dict(gate=GATE))
    assert not is_norm_gated(dict(gate=dict(type='mmskip.GumbelGate')))
    assert not is_norm_gated(dict(type='mmskip.DynamicConversion'))

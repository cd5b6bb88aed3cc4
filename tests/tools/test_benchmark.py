"""The benchmark of skip frames against dense ones."""

import csv
import importlib.util
import json
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def tool():
    path = ROOT / 'tools' / 'benchmark.py'
    spec = importlib.util.spec_from_file_location('benchmark', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('pattern', ['blob', 'blocks', 'pixels'])
@pytest.mark.parametrize('share', [0.0, 0.25, 1.0])
def test_a_region_has_the_share_that_is_asked_for(tool, pattern, share):
    region = tool.region(pattern, share, torch.Size([64, 32]))

    assert region.shape == (1, 1, 64, 32)
    assert region.float().mean() == share


def rows(*shares):
    return [
        dict(pattern='blob', active=active, share_of_dense=share)
        for active, share in shares
    ]


def test_break_even_lies_between_the_rows(tool):
    table = rows((0.0, 0.2), (0.5, 0.8), (1.0, 1.2))

    assert tool.break_even(table, 'blob') == pytest.approx(0.75)


def test_there_is_no_break_even_if_skipping_always_wins(tool):
    assert tool.break_even(rows((0.0, 0.2), (1.0, 0.9)), 'blob') is None


def test_a_forced_gate_fires_in_its_region_only(tool):
    gate = tool.RegionGate()
    region = tool.region('blob', 0.25, torch.Size([8, 8]))

    gate.force(region)
    assert gate.params().region is region
    assert gate.params() is gate.params()
    gate.force(torch.zeros_like(region))
    assert gate.params().region is None
    assert gate.params().threshold == 0.0


def test_the_tool_writes_what_it_measured(tool, tmp_path):
    pytest.importorskip('mmaction')
    config = tmp_path / 'config.py'
    config.write_text(
        "default_scope = 'mmaction'\n"
        'model = dict(type="Recognizer2D", backbone=dict(type="ResNet", '
        'depth=18, pretrained=None), cls_head=dict(type="TSNHead", '
        'num_classes=3, in_channels=512))\n'
    )
    options = ['--size', '64', '64', '--frames', '2', '--threads', '1']
    active = ['--active', '0', '0.25', '1']

    tool.main([str(config), *options, *active, '--out', str(tmp_path)])

    result = json.loads((tmp_path / 'benchmark.json').read_text())
    still, quarter, full = result['rows']
    assert still['mac_reduction'] is None
    assert 2 < quarter['mac_reduction'] < 8
    assert full['mac_reduction'] == 1
    with (tmp_path / 'benchmark.csv').open() as file:
        assert [float(r['active']) for r in csv.DictReader(file)] == [
            0, 0.25, 1,
        ]  # fmt: skip
    assert (tmp_path / 'benchmark.png').stat().st_size > 0
    assert sum(result['static_frame_ms_by_layer'].values()) > 0

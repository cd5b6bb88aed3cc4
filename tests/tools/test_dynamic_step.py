"""tools/benchmarks/dynamic_step.py on a tiny model."""

import json
from pathlib import Path

import pytest

from mmskip.apis.errors import EXIT_MISTAKE, EXIT_OK, run_tool

pytest.importorskip('mmaction.models')

CONFIGS = Path(__file__).parents[2] / 'configs'
DYNAMIC = 'toy/va-red2_r2plus1d_r18-w16_8x2x1-10e_toy-kinetics.py'
SMALL = [
    *('--clips', '2', '--frames', '4', '--size', '16', '--repeats', '1'),
    '--cfg-options',
    'model.backbone.base_channels=4',
    'model.cls_head.in_channels=32',
]


@pytest.fixture
def tool(load_tool):
    return load_tool('benchmarks/dynamic_step')


def test_times_and_macs_are_written(tool, tmp_path, capsys):
    out = tmp_path / 'new' / 'step.json'
    argv = [str(CONFIGS / DYNAMIC), '--json', str(out), *SMALL]
    assert tool.main(argv) == EXIT_OK
    result = json.loads(out.read_text())
    assert (result['clips'], result['frames'], result['size']) == (2, 4, 16)
    training = result['training']
    assert list(training) == ['plain', 'space_2', 'space_3']
    for row in training.values():
        assert row['seconds'] > 0
        assert row['ratio'] == row['seconds'] / training['plain']['seconds']
    rows = result['inference']
    options = ['plain', '(0, 0)', '(0, 1)', '(1, 0)', '(1, 1)']
    assert [row['options'] for row in rows] == 2 * options
    assert [row['batch'] for row in rows] == [1] * 5 + [8] * 5
    for plain, full, *less in (rows[:5], rows[5:]):
        assert plain['mac_ratio'] == plain['speed_up'] == 1
        assert plain['share'] is None
        assert full['gmac'] > plain['gmac']  # the gates
        assert all(row['gmac'] < plain['gmac'] for row in less)
        for row in less:
            assert row['clips_per_second'] > 0
            predicted = plain['gmac'] / row['gmac']
            assert row['mac_ratio'] == pytest.approx(predicted)
            share = (row['speed_up'] - 1) / (row['mac_ratio'] - 1)
            assert row['share'] == pytest.approx(share)
    # MACs of a clip do not depend on its batch.
    for one, other in zip(rows[:5], rows[5:], strict=True):
        assert one['gmac'] == pytest.approx(other['gmac'])
    printed = capsys.readouterr().out
    assert 'space_3' in printed
    assert '(1, 1)' in printed


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ('nowhere.py', 'nowhere.py'),
        (
            'toy/retinanet_r18-w32_toy-ua-detrac.py',
            'config of a recognizer',
        ),
        (
            'toy/r2plus1d_r18-w16_8x2x1-10e_toy-kinetics.py',
            'mmskip.DynamicConversion',
        ),
    ],
)
def test_a_config_of_something_else_is_a_mistake(
    tool, capsys, config, message
):
    argv = [str(CONFIGS / config), *SMALL[:8]]
    assert run_tool(tool.main, 'dynamic_step', argv) == EXIT_MISTAKE
    assert message in ' '.join(capsys.readouterr().err.split())


@pytest.mark.parametrize('option', ['clips', 'frames', 'size', 'repeats'])
def test_sizes_below_one_are_refused(tool, capsys, option):
    with pytest.raises(SystemExit):
        tool.parse_args(['a.py', f'--{option}', '0'])
    assert f'--{option}: expected at least 1' in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_a_mistake(tool, tmp_path, capsys):
    (tmp_path / 'file').touch()
    out = str(tmp_path / 'file' / 'a.json')
    argv = [str(CONFIGS / DYNAMIC), '--json', out, *SMALL]
    assert run_tool(tool.main, 'dynamic_step', argv) == EXIT_MISTAKE
    assert 'cannot write: ' in capsys.readouterr().err

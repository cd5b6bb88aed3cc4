"""The commands that look at one model, on a tiny detector."""

import csv
import json
from pathlib import Path

import pytest
import torch

from mmskip.apis import init_model, load_config
from mmskip.apis.errors import EXIT_MISTAKE, EXIT_OK, run_tool
from mmskip.experiments import ToolRuns
from mmskip.experiments.jobs import as_option

pytest.importorskip('mmdet')

GATE = "type='mmskip.OutputNormGate', threshold=0.05"


@pytest.fixture(scope='module')
def learned(setup, tmp_path_factory):
    """Config and checkpoint of the tiny detector with learned gates."""
    folder = tmp_path_factory.mktemp('learned')
    config = folder / 'learned.py'
    text = setup.config.read_text()
    assert GATE in text
    config.write_text(text.replace(GATE, "type='mmskip.GumbelGate'"))
    torch.manual_seed(0)
    model = init_model(load_config(config), setup.checkpoint)
    for name, value in model.named_parameters():
        if name.endswith('gate.bias'):
            value.data.fill_(1.0)
    meta = dict(dataset_meta=model.dataset_meta)
    path = folder / 'learned.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return config, path


@pytest.fixture
def in_process(load_tool, monkeypatch):
    """Run the tools in this process, which has imported all there is."""

    def run(self, command, options, folder, tell):
        script, *arguments = map(str, command)
        options = map(as_option, options.items())
        argv = [*arguments, '--cfg-options', *options]
        assert load_tool(Path(script).stem).main(argv) == EXIT_OK

    monkeypatch.setattr(ToolRuns, '_run', run)


def read(path):
    return json.loads(Path(path).read_text())


def rows_of(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def test_open_gates_fire_everywhere(setup, load_tool, in_process):
    tool = load_tool('analysis/firing_rates')
    argv = [
        str(setup.config), f'open={setup.checkpoint}', '--out', 'out',
        '--cfg-options',
        'model.conversions.0.gate.threshold=-1',
    ]  # fmt: skip
    assert tool.main(argv) == EXIT_OK
    rows = read('out/firing_rates.json')['rows']
    stages = [row['stage'] for row in rows]
    assert stages[0] == 'backbone.conv1'
    assert {'backbone.layer4', 'neck.fpn_convs', 'bbox_head.cls_convs'} < set(
        stages
    )
    assert [row['firing_rate'] for row in rows] == [1.0] * len(rows)
    assert len(rows_of('out/firing_rates.csv')) == len(rows)
    assert Path('out/firing_rates.png').stat().st_size > 1000


def test_fewer_reference_frames_cost_less(setup, load_tool, in_process):
    tool = load_tool('analysis/reset_interval')
    argv = [
        str(setup.config), str(setup.checkpoint), '--out', 'out',
        '--intervals', '1', 'none',
    ]  # fmt: skip
    assert tool.main(argv) == EXIT_OK
    dense, whole = read('out/reset_interval.json')['rows']
    assert dense['interval'] == 1
    assert dense['reduction'] == 1
    assert dense['reference_share'] == 1
    assert whole['interval'] is None
    assert whole['reduction'] > 1
    assert 0 < whole['reference_share'] < 1
    results = sorted(Path('out').glob('tiny/*/result.json'))
    times = [path.stat().st_mtime_ns for path in results]
    assert len(times) == 2
    assert tool.main(argv) == EXIT_OK
    assert [path.stat().st_mtime_ns for path in results] == times
    assert Path('out/reset_interval.png').stat().st_size > 1000


def test_expected_cost_is_that_of_the_probabilities(learned, load_tool):
    tool = load_tool('analysis/expected_cost')
    argv = [*map(str, learned), '--out', 'out']
    assert tool.main(argv) == EXIT_OK
    found = read('out/expected_cost.json')
    assert found['frames'] == 8
    for row in (found['total'], *found['rows']):
        assert row['expected'] == pytest.approx(0.7310586)
        assert row['measured'] == 1
    assert {row['part'] for row in found['rows']} == {
        'backbone', 'neck', 'bbox_head'
    }  # fmt: skip
    dense = sum(row['gmac_per_frame'] for row in found['rows'])
    assert found['total']['gmac_per_frame'] == pytest.approx(dense)
    assert len(rows_of('out/expected_cost.csv')) == len(found['rows'])
    assert Path('out/expected_cost.png').stat().st_size > 1000


def test_expected_cost_is_read_back(learned, load_tool, monkeypatch):
    tool = load_tool('analysis/expected_cost')
    argv = [*map(str, learned), '--out', 'out', '--max-frames', '2']
    assert tool.main(argv) == EXIT_OK
    found = read('out/expected_cost.json')
    assert found['frames'] == 2
    monkeypatch.setattr(tool, 'measure', None)
    assert tool.main(argv) == EXIT_OK
    assert read('out/expected_cost.json') == found


@pytest.mark.parametrize(
    ('name', 'argv', 'text'),
    [
        ('firing_rates', ['no.pth'], 'checkpoint not found: no.pth'),
        ('reset_interval', ['a=no.pth'], 'checkpoint not found: no.pth'),
        ('reset_interval', ['{pth}', '{pth}'], 'write LABEL=CHECKPOINT'),
        ('expected_cost', ['{pth}'], 'learned gates'),
        ('expected_cost', ['no.pth'], 'checkpoint not found: no.pth'),
    ],
)
def test_a_mistake_is_one_line(setup, load_tool, capsys, name, argv, text):
    tool = load_tool(f'analysis/{name}')
    argv = [arg.format(pth=setup.checkpoint) for arg in argv]
    argv = [str(setup.config), *argv, '--out', 'out']
    assert run_tool(tool.main, name, argv) == EXIT_MISTAKE
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f'{name}: error: ')
    assert text in last

import csv
import json
from pathlib import Path

import pytest

from mmskip.apis.errors import EXIT_INCOMPLETE, EXIT_MISTAKE, EXIT_OK, run_tool
from tests.helpers.stub_tools import CONFIG, calls, write_stub_tools

LOADER = 'dict(dataset=dict(split=1))'
SPLITS = f'train_dataloader = test_dataloader = {LOADER}\n'


@pytest.fixture
def mean(tmp_path, load_tool, monkeypatch):
    tool = load_tool('analysis/mean_over_splits')
    tools = write_stub_tools(tmp_path / 'tools')
    path = tools / 'test.py'
    text = path.read_text().replace(
        "float(options.get('model.gate.threshold', 0))",
        "float(options['test_dataloader.dataset.split']) / 10",
    )
    path.write_text(text)
    monkeypatch.setattr(tool, 'TOOLS', tools)
    Path('config.py').write_text(CONFIG + SPLITS)

    def run(*argv):
        before = len(calls(tools))
        code = run_tool(
            tool.main, 'mean', ['config.py', '--out', 'out', *argv]
        )
        return code, calls(tools)[before:]

    return run


def read():
    return json.loads(Path('out/splits.json').read_text())


def test_each_split_is_trained_and_tested_and_the_mean_is_told(mean, capsys):
    code, new = mean()
    assert code == EXIT_OK
    assert [call['tool'] for call in new] == ['train', 'test'] * 3
    for index, call in enumerate(new):
        split = str(index // 2 + 1)
        assert call['options']['train_dataloader.dataset.split'] == split
        assert call['options']['test_dataloader.dataset.split'] == split
    assert read()['mean']['coco/bbox_mAP'] == pytest.approx(0.5)
    assert len(read()['rows']) == 3
    with open('out/splits.csv') as file:
        rows = list(csv.DictReader(file))
    assert [row['split'] for row in rows] == ['1', '2', '3', 'mean']
    assert float(rows[1]['coco/bbox_mAP']) == pytest.approx(0.5)
    assert 'mean' in capsys.readouterr().out
    assert mean() == (EXIT_OK, [])


def test_checkpoints_are_tested_and_not_trained(mean):
    for split in (1, 3):
        Path(f's{split}.pth').write_text('x')
    code, new = mean('--splits', '1', '3', '--checkpoints', 's{split}.pth')
    assert code == EXIT_OK
    assert [call['tool'] for call in new] == ['test', 'test']
    assert Path(new[1]['inputs'][1]).name == 's3.pth'


def test_trainings_begin_with_weights_of_their_split(mean):
    Path('s2.pth').write_text('x')
    code, new = mean('--splits', '2', '--load-from', 's{split}.pth')
    assert code == EXIT_OK
    assert Path(new[0]['options']['load_from']).name == 's2.pth'


def test_a_split_that_fails_does_not_lose_the_others(mean, capsys):
    code, _ = mean('--cfg-options', 'model.fails=1')
    assert code == EXIT_INCOMPLETE
    assert 'FAILED split 2: test: error' in capsys.readouterr().out


@pytest.mark.parametrize('pattern', ['one.pth', 'gone{split}.pth'])
def test_weights_of_one_split_for_all_are_refused(mean, pattern, capsys):
    Path('one.pth').write_text('x')
    assert mean('--checkpoints', pattern)[0] == EXIT_MISTAKE
    assert pattern.split('{')[0] in capsys.readouterr().err

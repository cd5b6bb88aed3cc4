import csv
import json
import os
import signal
from pathlib import Path

import pytest

from mmskip.apis.errors import (
    EXIT_INCOMPLETE,
    EXIT_INTERRUPTED,
    EXIT_MISTAKE,
    EXIT_OK,
    run_tool,
)
from tests.helpers.stub_tools import CONFIG, calls, write_stub_tools

PLAN = """
seeds = [0, 1]
_threshold = 'model.gate.threshold'
methods = dict(
    dense=dict(config='config.py', train=True),
    norm=dict(
        config='config.py',
        weights='dense',
        settings={f'threshold {t}': {_threshold: t} for t in (0.25, 0.5)},
    ),
    gumbel=dict(
        config='config.py',
        train=True,
        weights='dense',
        settings={'beta 1': {'model.beta': 1.0, _threshold: 0.75}},
    ),
    broken=dict(
        config='config.py', weights='dense', options={'model.fails': 1}
    ),
)
"""


@pytest.fixture
def compare(tmp_path, load_tool, monkeypatch):
    """Run the command on tools that take no time."""
    tool = load_tool('analysis/compare')
    tools = write_stub_tools(tmp_path / 'tools')
    monkeypatch.setattr(tool, 'TOOLS', tools)
    Path('config.py').write_text(CONFIG)
    Path('plan.py').write_text(PLAN)

    def run(*argv, plan='plan.py'):
        before = len(calls(tools))
        argv = [plan, '--out', 'out', *argv]
        code = run_tool(tool.main, 'compare', argv)
        new = calls(tools)[before:]
        return code, [call['tool'] for call in new if not failing(call)]

    run.tool = tool
    return run


def failing(call):
    return 'model.fails' in call['options']


def summary():
    return json.loads(Path('out/summary.json').read_text())


def test_a_failing_row_does_not_lose_the_others(compare, capsys):
    code, tools = compare('--jobs', '2', '--at', '2')
    assert code == EXIT_INCOMPLETE
    assert tools.count('train') == 4
    assert tools.count('test') == 8
    found = summary()
    assert len(found['rows']) == 8
    assert set(found['failed']) == {'broken, seed 0', 'broken, seed 1'}
    assert 'FAILED broken, seed 1: test: error' in capsys.readouterr().out
    (norm, _) = [m for m in found['means'] if m['method'] == 'norm']
    assert norm['setting'] == 'threshold 0.25'
    assert norm['seeds'] == 2
    assert norm['AP'] == pytest.approx(0.46)
    assert norm['AP_std'] == pytest.approx(0.02 / 2**0.5)
    at = {row['method']: row for row in found['at_equal_macs']}
    assert at['norm']['AP'] == pytest.approx(0.21)
    assert at['gumbel']['AP'] is None
    assert Path('out/ap_vs_gmac.png').stat().st_size > 1000
    with open('out/rows.csv') as file:
        assert len(list(csv.DictReader(file))) == 8
    with open('out/summary.csv') as file:
        means = list(csv.DictReader(file))
    assert len(means) == 4
    assert {mean['gate_share'] for mean in means} == {'0.25'}
    assert {mean['reference_share'] for mean in means} == {'0.5'}


def test_a_second_run_computes_nothing(compare):
    methods = ('--only', 'norm', 'gumbel')
    assert compare(*methods)[0] == EXIT_OK
    first = summary()
    assert compare(*methods) == (EXIT_OK, [])
    assert summary() == first


def test_chosen_methods_bring_what_they_begin_with(compare):
    _, tools = compare('--only', 'norm')
    assert tools.count('train') == 2
    assert tools.count('test') == 2 + 4
    _, tools = compare('--only', 'gumbel')
    assert sorted(tools) == ['test'] * 2 + ['train'] * 2
    # What was not chosen is shown as far as it is there.
    shown = [row['method'] for row in summary()['means']]
    assert shown == ['dense', 'norm', 'norm', 'gumbel']


def test_without_training_only_what_is_there_is_tested(compare):
    folder = Path('out/dense/default/seed_1')
    folder.mkdir(parents=True)
    (folder / 'a.pth').touch()
    (folder / 'last_checkpoint').write_text('a.pth')
    code, tools = compare('--no-train', '--only', 'norm')
    assert code == EXIT_INCOMPLETE
    assert tools == ['test'] * 3
    failed = summary()['failed']
    assert 'no checkpoint in' in failed['dense, seed 0']
    assert 'dense, seed 0 failed' in failed['norm, threshold 0.25, seed 0']


def test_a_model_is_compressed_before_it_is_trained_and_tested(compare):
    Path('svd.py').write_text(
        """
methods = dict(
    dense=dict(config='config.py', train=True),
    svd=dict(
        config='config.py', weights='dense', train=True,
        compress=dict(method='spatial_svd', macs=0.5),
        settings={'a': {'model.beta': 1.0, 'model.gate.threshold': 0.5},
                  'b': {'compress': dict(macs=0.25)}},
    ),
)"""
    )
    rest = ['compress', 'train', 'test'] * 2
    assert compare(plan='svd.py') == (EXIT_OK, ['train', 'test', *rest])
    folder = Path('out/svd/b/seed_0')
    name = 'config_spatial_svd-0.25'
    command = (folder / 'train.log').read_text().splitlines()[0]
    assert f'compressed/{name}.py' in command
    assert f'load_from={folder.absolute()}/compressed/{name}.pth' in command
    # Options are in the config that was written, whose layers are others.
    command = Path('out/svd/a/seed_0/test.log').read_text().splitlines()[0]
    assert 'model.' not in command
    command = Path('out/svd/a/seed_0/compressed/compress.log').read_text()
    assert 'model.beta=1.0 model.gate.threshold=0.5' in command
    assert compare(plan='svd.py') == (EXIT_OK, [])
    assert compare('--only', 'dense', plan='svd.py') == (EXIT_OK, [])
    assert len(summary()['rows']) == 3


def test_options_of_the_command_line_reach_every_row(compare):
    compare('--only', 'dense', '--cfg-options', 'model.gate.threshold=0.5')
    assert [row['AP'] for row in summary()['rows']] == pytest.approx(
        [0.2, 0.22]
    )


@pytest.mark.parametrize(
    ('argv', 'text'),
    [
        (['--only', 'gumble'], "did you mean 'gumbel'?"),
        (['--out', 'plan.py'], 'cannot write --out'),
    ],
)
def test_a_mistake_is_one_line(compare, capsys, argv, text):
    assert compare(*argv) == (EXIT_MISTAKE, [])
    error = capsys.readouterr().err
    assert text in error
    assert error.count('\n') == 1


def test_rows_are_what_the_test_tool_reports(setup, load_tool):
    pytest.importorskip('mmdet')
    gate = 'model.conversions.0.gate.threshold'
    Path('plan.py').write_text(
        f"""
methods = dict(output_norm=dict(
    config={str(setup.config)!r}, weights={str(setup.checkpoint)!r},
    settings={{'threshold 0.2': {{{gate!r}: 0.2}}}},
))"""
    )
    tool = load_tool('analysis/compare')
    assert tool.main(['plan.py', '--out', 'out', '--threads', '1']) == EXIT_OK
    (row,) = summary()['rows']
    argv = [str(setup.config), str(setup.checkpoint), '--out', 'metrics.json']
    argv += ['--cfg-options', f'{gate}=0.2']
    assert load_tool('test').main(argv) == EXIT_OK
    metrics = json.loads(Path('metrics.json').read_text())
    assert row['AP'] == metrics['coco/bbox_mAP']
    assert row['gmac_per_frame'] == metrics['cost/gmac']
    assert row['reduction'] == metrics['cost/reduction'] > 1


ENDLESS = """
import os, pathlib, time
pathlib.Path('pid').write_text(f'{os.getpid()}.')
time.sleep(60)
"""


@pytest.mark.parametrize('number', ['SIGINT', 'SIGTERM', 'SIGHUP'])
def test_no_training_outlives_the_tool(compare, fork, wait_for, number):
    Path('tools/train.py').write_text(ENDLESS)
    pid = Path('pid')
    tool = fork(compare.tool.main, 'compare', ['plan.py', '--out', 'out'])
    wait_for(lambda: pid.exists() and pid.read_text().endswith('.'))

    os.kill(tool.pid, signal.Signals[number])
    tool.join(10)

    assert tool.exitcode == EXIT_INTERRUPTED
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()[:-1]), 0)

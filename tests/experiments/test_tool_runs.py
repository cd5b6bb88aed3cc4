import json
from dataclasses import replace

import pytest
from mmengine.config import Config

from mmskip.apis import UserError
from mmskip.experiments import Compression, ToolRuns
from mmskip.experiments.tool_runs import cost_option
from tests.helpers.stub_tools import CONFIG, calls, write_stub_tools


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(CONFIG)
    return path


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / 'a.pth'
    path.write_text('weights')
    return path


@pytest.fixture
def runs(tmp_path):
    return ToolRuns(write_stub_tools(tmp_path / 'tools'))


def test_what_was_tested_is_read_back(runs, config, weights, tmp_path):
    options = {'model.gate.threshold': 0.25}
    first = runs.test(config, weights, options, tmp_path / 'out')
    assert first.metrics['cost/gmac'] == 7.5
    assert not first.reused
    again = runs.test(config, weights, options, tmp_path / 'out')
    assert again.reused
    assert again.metrics == first.metrics
    assert len(calls(runs.tools)) == 1


def test_what_matters_to_a_test_makes_it_run_again(
    runs, config, weights, tmp_path
):
    def test(options, runs=runs):
        runs.test(config, weights, options, tmp_path / 'out')
        return len(calls(runs.tools))

    assert test({}) == 1
    assert test({'model.gate.threshold': 0.5}) == 2
    assert test({'model.gate.threshold': 0.5, 'train_cfg.max_epochs': 9}) == 2
    weights.write_text('other weights')
    assert test({'model.gate.threshold': 0.5}) == 3
    assert test({'model.gate.threshold': 0.5}, replace(runs, again=True)) == 4


def test_a_spoilt_result_is_made_again(runs, config, weights, tmp_path):
    for _ in range(2):
        result = runs.test(config, weights, {}, tmp_path / 'out')
        assert not result.reused
        (tmp_path / 'out/result.json').write_text('{"metr')


def test_a_training_is_done_once(runs, config, weights, tmp_path):
    def train(seed=0, start=weights, **options):
        path = runs.train(config, start, options, seed, tmp_path / 'out')
        assert path.read_text().split()[1] == str(seed)
        return len(calls(runs.tools))

    assert train() == 1
    assert train() == 1
    assert train(load_from='is replaced') == 1
    assert train(seed=1) == 2
    assert train(seed=1, **{'model.beta': 0.5}) == 3
    assert train(seed=1, start=None, **{'model.beta': 0.5}) == 4
    (call, *_) = calls(runs.tools)
    assert call['seed'] == '0'
    assert call['no_validate']
    assert call['options'] == {'load_from': str(weights)}
    assert not any(call['resume'] for call in calls(runs.tools))


def test_an_interrupted_training_goes_on(runs, config, weights, tmp_path):
    folder = tmp_path / 'out'
    runs.train(config, weights, {}, 0, folder)
    record = json.loads((folder / 'trained.json').read_text())
    (folder / 'trained.json').write_text(json.dumps({**record, 'done': False}))
    runs.train(config, weights, {}, 0, folder)
    assert [call['resume'] for call in calls(runs.tools)] == [False, True]


def test_a_training_that_was_begun_by_hand_goes_on(
    runs, config, weights, tmp_path
):
    folder = tmp_path / 'out'
    folder.mkdir()
    (folder / 'epoch_1.pth').touch()
    (folder / 'last_checkpoint').write_text('/elsewhere/epoch_1.pth')
    idle = replace(runs, may_train=False)
    found = idle.train(config, weights, {}, 0, folder)
    assert found == folder / 'epoch_1.pth'
    assert calls(runs.tools) == []
    runs.train(config, weights, {}, 0, folder)
    assert [call['resume'] for call in calls(runs.tools)] == [True]


def test_what_may_not_be_made_is_refused(runs, config, weights, tmp_path):
    idle = replace(runs, may_train=False, may_test=False)
    with pytest.raises(UserError, match='no checkpoint in'):
        idle.train(config, weights, {}, 0, tmp_path / 'out')
    with pytest.raises(UserError, match='no result in'):
        idle.test(config, weights, {}, tmp_path / 'out')
    compression = Compression('spatial_svd', 0.5)
    with pytest.raises(UserError, match='no compressed model in'):
        idle.compress(config, weights, {}, compression, tmp_path / 'out')


def test_a_failure_tells_the_last_line_and_the_log(
    runs, config, weights, tmp_path
):
    told = []
    with pytest.raises(UserError, match=r'error: this fails \(see .*test.log'):
        runs.test(
            config, weights, {'model.fails': 1}, tmp_path / 'out', told.append
        )
    assert told == ['0:01:02']
    log = (tmp_path / 'out/test.log').read_text()
    assert '--cfg-options model.fails=1' in log.splitlines()[0]


def test_a_compression_is_made_once_for_what_it_is_made_from(
    runs, config, weights, tmp_path
):
    folder = tmp_path / 'out'

    def compress(macs=0.5, **options):
        found = runs.compress(
            config, weights, options, Compression('weight_svd', macs), folder
        )
        assert found.config.is_file()
        return found, len(calls(runs.tools))

    first, count = compress()
    assert count == 1
    assert compress() == (first, 1)
    other, count = compress(macs=0.25)
    assert count == 2
    assert other.checkpoint != first.checkpoint
    # Both are there, but the record tells of the last one.
    assert compress() == (first, 3)
    assert compress(**{'model.beta': 0.5})[1] == 4
    weights.write_text('other weights')
    assert compress(**{'model.beta': 0.5})[1] == 5
    first.checkpoint.unlink()
    assert compress(**{'model.beta': 0.5})[1] == 6
    (call, *_) = calls(runs.tools)
    assert call['method'] == 'weight_svd'
    assert call['macs'] == '0.5'
    assert call['shape'] is None


def test_files_that_are_missing_are_refused(runs, config, tmp_path):
    with pytest.raises(UserError, match='checkpoint not found'):
        runs.test(config, 'no.pth', {}, tmp_path / 'out')
    with pytest.raises(UserError, match='config not found'):
        runs.train('no.py', None, {}, 0, tmp_path / 'out')


@pytest.mark.parametrize(
    ('evaluator', 'option'),
    [
        (dict(type='mmskip.ComputeCost'), 'test_evaluator.out_file'),
        ([dict(type='mmskip.ComputeCost')], 'test_evaluator.0.out_file'),
    ],
)
def test_the_metric_of_costs_is_found(evaluator, option):
    assert cost_option(Config(dict(test_evaluator=evaluator))) == option


def test_without_the_metric_of_costs_there_is_no_comparison():
    with pytest.raises(UserError, match=r'mmskip\.ComputeCost'):
        cost_option(Config(dict(test_evaluator=[dict(type='Other')])))

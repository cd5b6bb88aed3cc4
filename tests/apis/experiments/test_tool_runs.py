import json
from dataclasses import replace

import pytest
from mmengine.config import Config

from mmskip.apis import UserError
from mmskip.apis.experiments import ToolRuns
from mmskip.apis.experiments.tool_runs import as_option, cost_option
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


@pytest.mark.parametrize(
    ('value', 'text'),
    [
        (0.0625, 'a.b=0.0625'),
        (None, 'a.b=None'),
        (True, 'a.b=True'),
        ('mmskip.Gate', 'a.b=mmskip.Gate'),
        ([1, (2, 3)], 'a.b=[1,(2,3)]'),
    ],
)
def test_options_survive_the_command_line(value, text):
    assert as_option(('a.b', value)) == text


@pytest.mark.parametrize('value', ['a b', '1', dict(type='Gate'), 'a,b'])
def test_options_that_would_change_are_refused(value):
    with pytest.raises(UserError, match='would be read as'):
        as_option(('a.b', value))

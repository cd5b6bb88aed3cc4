from pathlib import Path

import pytest
from mmengine.registry import MODELS

from mmskip.apis import UserError, import_host, load_config
from mmskip.evaluation import DETECTION
from mmskip.experiments import Compression, read_plan
from mmskip.experiments.jobs import as_option
from tests.hosts.host import default_scope, without_downloads


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ('d.py', 'g.py', 'a.pth', 'a_0.pth', 'a_1.pth'):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def trials(folder):
    def read(text):
        (folder / 'plan.py').write_text(text)
        return read_plan('plan.py').trials

    return read


def names(trials):
    return [trial.name for trial in trials]


def test_options_are_those_of_method_and_setting(trials):
    (trial,) = trials("""
_key = 'model.a'
methods = dict(dense=dict(
    config='d.py', weights='a.pth', options={_key: 1, 'b': 2},
    settings={'b 3': {'b': 3}},
))""")
    assert trial.options == {'model.a': 1, 'b': 3}
    assert trial.config == Path('d.py')
    assert trial.weights == 'a.pth'
    assert trial.seed is None
    assert trial.folder(Path('out')) == Path('out/dense/b_3')


def test_a_trained_method_has_a_trial_per_seed_and_setting(trials):
    found = trials("""
seeds = [3, 4]
methods = dict(
    dense=dict(config='d.py', weights='a.pth'),
    gumbel=dict(config='g.py', weights='dense', train=True,
                settings={'beta 1': {'beta': 1}, 'beta 2': {'beta': 2}}),
    none=dict(config='g.py', train=True, seeds=[5]),
)""")
    assert names(found) == [
        'dense',
        'gumbel, beta 1, seed 3', 'gumbel, beta 1, seed 4',
        'gumbel, beta 2, seed 3', 'gumbel, beta 2, seed 4',
        'none, seed 5',
    ]  # fmt: skip
    assert {trial.needs for trial in found[1:5]} == {'dense'}
    assert found[1].folder(Path('o')) == Path('o/gumbel/beta_1/seed_3')
    assert found[-1].folder(Path('o')) == Path('o/none/default/seed_5')


def test_weights_are_those_of_the_same_seed_and_setting(trials):
    found = trials("""
seeds = [0, 1]
methods = dict(
    dense=dict(config='d.py', weights='a_{seed}.pth',
               settings={'D0': {}, 'D1': {'config': 'g.py'}}),
    norm=dict(config='d.py', weights='dense', settings={'D1': {}}),
    other=dict(config='d.py', weights='dense/D0'),
)""")
    assert [trial.weights for trial in found[:2]] == ['a_0.pth', 'a_1.pth']
    assert found[2].config.name == 'g.py'
    assert [trial.needs for trial in found[4:]] == [
        'dense, D1, seed 0', 'dense, D1, seed 1',
        'dense, D0, seed 0', 'dense, D0, seed 1',
    ]  # fmt: skip


def test_settings_change_keys_of_a_compression(trials):
    found = trials("""
methods = dict(
    svd=dict(config='d.py', weights='a.pth',
             compress=dict(method='weight_svd', macs=0.5),
             settings={'half': {'b': 1}, 'third': {'compress': dict(macs=0.3)},
                       's': {'compress': dict(method='spatial_svd')}}),
    both=dict(config='g.py', weights='a.pth', train=True,
              settings={'x': {'compress': dict(method='weight_svd', macs=.1)},
                        'none': {}}),
)""")
    assert [trial.compress for trial in found] == [
        Compression('weight_svd', 0.5), Compression('weight_svd', 0.3),
        Compression('spatial_svd', 0.5), Compression('weight_svd', 0.1), None,
    ]  # fmt: skip
    assert [trial.options for trial in found] == [{'b': 1}, {}, {}, {}, {}]


DENSE = "dense=dict(config='d.py', weights='a.pth')"


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('method = dict()', "unknown key 'method'.*mean 'methods'"),
        ('methods = dict()', 'expected a dict of methods'),
        ('methods = dict(a=1)', 'method a: expected a dict'),
        (
            "methods = dict(a=dict(confg='d.py'))",
            "method a: unknown key 'confg'.*did you mean 'config'",
        ),
        ('methods = dict(a=dict(train=True))', 'expected config'),
        ("methods = dict(a=dict(config='d.py'))", 'a: expected weights'),
        (
            (
                "methods = dict(a=dict(config='d.py', train=True, "
                "compress=dict(method='weight_svd', macs=0.5)))"
            ),
            'a: expected weights',
        ),
        (
            (
                "methods = dict(a=dict(config='d.py', weights='a.pth', "
                "compress='weight_svd'))"
            ),
            'method a: expected compress to be a dict',
        ),
        (
            "methods = dict(a=dict(config='no.py', train=True))",
            'config not found: no.py',
        ),
        (
            "methods = dict(a=dict(config='d.py', weights='no.pth'))",
            'a: checkpoint not found: no.pth',
        ),
        (
            "methods = dict(a=dict(config='d.py', weights='b'), b=dict())",
            'a: expected method b before it',
        ),
        (
            (
                f'methods = dict({DENSE}, '
                "a=dict(config='d.py', weights='dense/D1'))"
            ),
            "dense has no setting 'D1'",
        ),
        (
            (
                "methods = dict(dense=dict(config='d.py', train=True), "
                "a=dict(config='d.py', weights='dense', train=True, "
                'seeds=[2]))\nseeds = [0, 1]'
            ),
            r'seeds \[2\] need as many of dense',
        ),
        (
            "methods = dict(a=dict(config='d.py', train=True, seeds=3))",
            'expected a list of seeds, got 3',
        ),
        (
            "methods = dict(a=dict(config='d.py', settings={'b': 1}))",
            'setting b: expected a dict of options',
        ),
    ],
)
def test_mistakes_say_where_they_are(trials, text, message):
    with pytest.raises(UserError, match=message):
        trials(text)


ROOT = Path(__file__).parents[2]
PLANS = sorted((ROOT / 'tools/analysis/comparisons').glob('*.py'))


@pytest.mark.parametrize('plan', PLANS, ids=str)
def test_plans_name_what_there_is(plan):
    task, trials = read_plan(plan)
    methods = {trial.method for trial in trials}
    assert methods & {'dense', 'plain', 'tsn'}
    assert len(methods) > 1
    is_detection = 'detrac' in plan.name
    assert (task is DETECTION) == is_detection


@pytest.mark.parametrize('plan', PLANS, ids=str)
def test_options_of_plans_fit_their_configs(plan):
    """A key that no part of a model knows does not build."""
    trials = read_plan(plan).trials
    for trial in {tuple(trial.options): trial for trial in trials}.values():
        assert all(map(as_option, trial.options.items()))
        cfg = load_config(trial.config, dict(trial.options))
        if any(key.startswith('model.') for key in trial.options):
            pytest.importorskip(import_host(cfg))
            with default_scope(cfg.default_scope):
                MODELS.build(without_downloads(cfg.model))


def test_an_unknown_task_is_refused(trials):
    with pytest.raises(UserError, match='expected task to be one of det'):
        trials("task = 'audio'\nmethods = dict(a=dict(config='d.py'))")

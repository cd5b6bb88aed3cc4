import json
import runpy
import sys
from pathlib import Path

import mmengine
import pytest
import torch
from mmengine.config import Config

from mmskip.apis.errors import EXIT_MISTAKE, EXIT_OK, run_tool
from tests.helpers.ports import free_port
from tests.tools.conftest import TOOLS

mmdet = pytest.importorskip('mmdet')


@pytest.fixture(scope='module')
def one_process(setup, tmp_path_factory):
    """Metrics and predictions of a run in this process."""
    folder = tmp_path_factory.mktemp('one process')
    return folder / 'metrics.json', folder / 'predictions.pkl'


@pytest.fixture
def reference(setup, load_tool, one_process):
    metrics, predictions = one_process
    if not metrics.exists():
        code = load_tool('test').main(
            [
                str(setup.config), str(setup.checkpoint),
                '--out', str(metrics), '--dump', str(predictions),
            ]
        )  # fmt: skip
        assert code == EXIT_OK
    return json.loads(metrics.read_text()), mmengine.load(predictions)


def assert_same_predictions(found, expected):
    found = sorted(found, key=lambda sample: sample['img_id'])
    expected = sorted(expected, key=lambda sample: sample['img_id'])
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a['img_id'] == b['img_id']
        for name, value in b['pred_instances'].items():
            torch.testing.assert_close(
                a['pred_instances'][name], value, rtol=1e-5, atol=1e-6
            )


def test_metrics_and_predictions_are_saved(reference):
    metrics, predictions = reference
    assert metrics['coco/bbox_mAP_50'] >= 0
    assert metrics['cost/frames'] == 8
    assert metrics['cost/reduction'] > 1
    assert len(predictions) == 8
    assert all(len(p['pred_instances']['scores']) for p in predictions)


def test_two_gloo_processes_give_the_results_of_one(
    setup, reference, load_tool, fork, monkeypatch, capfd
):
    main = load_tool('test').main
    argv = [
        setup.config, setup.checkpoint, '--launcher', 'pytorch',
        '--out', 'metrics.json', '--dump', 'predictions.pkl',
    ]  # fmt: skip
    group = dict(
        WORLD_SIZE=2, MASTER_ADDR='127.0.0.1', MASTER_PORT=free_port()
    )
    processes = []
    for rank in range(2):
        for name, value in dict(group, RANK=rank, LOCAL_RANK=rank).items():
            monkeypatch.setenv(name, str(value))
        processes.append(fork(main, 'test', argv))
    for process in processes:
        process.join(120)
        assert process.exitcode == EXIT_OK
    assert 'gloo instead of nccl' in capfd.readouterr().out
    metrics, predictions = reference
    assert mmengine.load('metrics.json') == pytest.approx(metrics)
    assert_same_predictions(mmengine.load('predictions.pkl'), predictions)


@pytest.mark.usefixtures('alone_in_a_group')
def test_no_thread_of_the_group_outlives_the_tool(
    setup, load_tool, gloo_threads
):
    # One that did could abort a process that was done.
    before = gloo_threads()
    argv = [str(setup.config), str(setup.checkpoint), '--launcher', 'pytorch']
    assert load_tool('test').main(argv) == EXIT_OK
    assert gloo_threads() == before


def test_the_stock_tool_gives_the_same_results(setup, reference, run_command):
    stock = Path(mmdet.__file__).parent / '.mim' / 'tools' / 'test.py'
    done = run_command(
        sys.executable, stock, setup.config, setup.checkpoint,
        '--work-dir', 'stock', '--out', 'predictions.pkl',
    )  # fmt: skip
    assert done.returncode == EXIT_OK, done.stderr
    metrics, predictions = reference
    assert_same_predictions(mmengine.load('predictions.pkl'), predictions)
    (saved,) = Path('stock').glob('*/*.json')
    found = json.loads(saved.read_text())
    # mmengine 0.10.7 writes a metric that is an int as null.
    fractions = {k: v for k, v in metrics.items() if isinstance(v, float)}
    assert {k: found[k] for k in fractions} == pytest.approx(fractions)
    assert fractions.keys() >= {'coco/bbox_mAP', 'cost/gmac'}


def mistake(tool, *argv):
    return run_tool(tool.main, 'test', [str(a) for a in argv])


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        (('no.py', None), 'config not found: no.py'),
        ((None, 'no.pth'), 'checkpoint not found: no.pth'),
        ((None, None, '--out', 'a.txt'), 'expected a name ending in .pkl'),
        ((None, None, '--dump', 'a.json'), 'expected a name ending in .pkl'),
        (
            (None, None, '--cfg-options', 'model.arch=NoNet'),
            'NoNet is not in the',
        ),
        (
            (None, None, '--cfg-options', 'model.backbone.deep=1'),
            "unexpected keyword argument 'deep'",
        ),
        (
            (None, None, '--cfg-options', 'test_evaluator.0.type=NoMetric'),
            'NoMetric is not in the',
        ),
        (
            (None, None, '--cfg-options', 'default_scope=mmfuture'),
            "default_scope='mmfuture'",
        ),
        ((None, None, '--badcase'), 'default_hooks.badcase'),
        ((None, None, '--launcher', 'pytorch'), 'torchrun'),
    ],
)
def test_a_mistake_is_one_line(setup, load_tool, capsys, change, text):
    config, checkpoint, *options = change
    code = mistake(
        load_tool('test'),
        config or setup.config,
        checkpoint or setup.checkpoint,
        *options,
    )
    assert code == EXIT_MISTAKE
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith('test: error: ')
    assert text in last


SAMPLER = 'test_dataloader.sampler.'


def test_frames_in_order_need_no_sampler_of_ours(setup, reference, load_tool):
    code = load_tool('test').main(
        [
            str(setup.config), str(setup.checkpoint), '--out', 'metrics.json',
            '--cfg-options', f'{SAMPLER}type=DefaultSampler',
            f'{SAMPLER}shuffle=False',
        ]
    )  # fmt: skip
    assert code == EXIT_OK
    assert mmengine.load('metrics.json') == pytest.approx(reference[0])


@pytest.mark.parametrize('rank', [None, 0, 1])
def test_frames_in_another_order_are_refused(
    setup, load_tool, capsys, monkeypatch, rank
):
    if rank is not None:  # one of two processes, without the other
        monkeypatch.setattr(
            'mmengine.dataset.sampler.get_dist_info', lambda: (rank, 2)
        )
    code = mistake(
        load_tool('test'), setup.config, setup.checkpoint,
        '--cfg-options', f'{SAMPLER}type=DefaultSampler',
        f'{SAMPLER}shuffle={rank is None}',
    )  # fmt: skip
    assert code == EXIT_MISTAKE
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith('test: error: test_dataloader: expected whole')
    assert "sampler=dict(type='mmskip.VideoOrderSampler')" in last


def test_a_file_that_is_no_checkpoint_is_refused(setup, load_tool, capsys):
    with open('a.pth', 'wb') as file:
        file.write(b'no checkpoint')
    code = mistake(load_tool('test'), setup.config, 'a.pth')
    assert code == EXIT_MISTAKE
    assert 'Traceback' not in capsys.readouterr().err


def test_weights_that_are_not_the_models_are_not_tested(
    setup, load_tool, capsys, unfit
):
    path, text = unfit
    assert mistake(load_tool('test'), setup.config, path) == EXIT_MISTAKE
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith('test: error: ')
    assert f'{path}' in last
    assert text in last


def test_a_mistake_ends_the_program_with_code_2(setup, monkeypatch, capsys):
    argv = ['test.py', str(setup.config), 'no.pth']
    monkeypatch.setattr(sys, 'argv', argv)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(TOOLS / 'test.py'), run_name='__main__')
    assert end.value.code == EXIT_MISTAKE
    error = capsys.readouterr().err
    assert 'checkpoint not found: no.pth' in error
    assert 'Traceback' not in error


def test_the_default_augmentation_is_that_of_mmdet(setup, load_tool):
    tool = load_tool('test')
    cfg = Config.fromfile(setup.config)
    tool.augment(cfg, 'mmdet')
    assert cfg.model.type == 'DetTTAModel'
    assert cfg.model.module.arch == 'RetinaNet'
    *_, last = cfg.test_dataloader.dataset.pipeline
    assert last.type == 'TestTimeAug'


def test_other_hosts_need_an_augmentation_of_their_own(load_tool):
    with pytest.raises(Exception, match='tta_model and tta_pipeline'):
        load_tool('test').augment(Config(), 'mmpose')


@pytest.mark.parametrize('evaluator', [None, dict(type='A'), [dict(type='A')]])
def test_predictions_are_dumped_beside_any_evaluator(load_tool, evaluator):
    cfg = Config(dict(test_evaluator=evaluator))
    load_tool('test').dump_predictions(cfg, 'mmpose', 'a.pkl')
    assert cfg.test_evaluator[-1] == dict(
        type='DumpResults', out_file_path='a.pkl'
    )
    assert len(cfg.test_evaluator) == (1 if evaluator is None else 2)

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper

from mmskip.apis import UserError
from mmskip.apis.errors import EXIT_MISTAKE, EXIT_OK, run_tool
from tests.helpers.ports import free_port
from tests.tools.conftest import TOOLS


def merged(load_tool, content, *argv):
    tool = load_tool('train')
    cfg = Config(content)
    tool.merge_args(cfg, tool.parse_args(['config.py', *argv]))
    return cfg


def test_training_saves_checkpoints_and_resumes(setup, load_tool, tmp_path):
    tool = load_tool('train')
    work_dir = tmp_path / 'work'
    argv = [str(setup.config), '--work-dir', str(work_dir), '--seed', '0']
    assert tool.main(argv) == EXIT_OK
    assert (work_dir / 'iter_2.pth').exists()
    longer = ['--cfg-options', 'train_cfg.max_iters=3', '--resume']
    assert tool.main(argv + longer) == EXIT_OK
    assert (work_dir / 'iter_3.pth').exists()
    assert not (work_dir / 'iter_4.pth').exists()


@pytest.mark.parametrize(
    ('content', 'text'),
    [
        ({'weights': True}, 'training to resume in w.pth, got a file without'),
        ({'last_checkpoint': ''}, 'last_checkpoint: expected the path'),
        ({'last_checkpoint': 'gone.pth'}, "got 'gone.pth', which is no file"),
    ],
)
def test_what_cannot_be_resumed_is_one_line(
    setup, load_tool, capsys, content, text
):
    argv = [str(setup.config), '--work-dir', '.', '--resume']
    if 'weights' in content:
        weights = torch.load(setup.checkpoint)['state_dict']
        torch.save(dict(state_dict=weights), 'w.pth')
        argv.append('w.pth')
    else:
        Path('last_checkpoint').write_text(content['last_checkpoint'])
    assert run_tool(load_tool('train').main, 'train', argv) == EXIT_MISTAKE
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith('train: error: ')
    assert text in last


def test_training_begins_from_weights_of_other_classes(
    setup, load_tool, capsys
):
    other = [
        '--work-dir', '.', '--cfg-options', f'load_from={setup.checkpoint}',
        'model.bbox_head.num_classes=5', 'train_cfg.max_iters=1',
    ]  # fmt: skip
    tool = load_tool('train')
    assert tool.main([str(setup.config), *other]) == EXIT_OK
    assert 'have another shape (bbox_head.' in capsys.readouterr().out


@pytest.mark.usefixtures('alone_in_a_group')
def test_no_thread_of_the_group_outlives_the_tool(
    setup, load_tool, tmp_path, gloo_threads
):
    # One that did could abort a process that was done.
    before = gloo_threads()
    argv = [str(setup.config), '--work-dir', str(tmp_path / 'work')]
    assert load_tool('train').main([*argv, '--launcher', 'pytorch']) == EXIT_OK
    assert gloo_threads() == before


def test_resuming_is_automatic_or_from_a_file(load_tool, tmp_path):
    assert merged(load_tool, {}).get('resume') is None
    cfg = merged(load_tool, dict(load_from='a.pth'), '--resume')
    assert cfg.resume
    assert cfg.load_from is None
    path = tmp_path / 'a.pth'
    path.touch()
    cfg = merged(load_tool, {}, '--resume', str(path))
    assert cfg.load_from == str(path)
    with pytest.raises(UserError, match='checkpoint not found'):
        merged(load_tool, {}, '--resume', 'no.pth')


@pytest.mark.parametrize('kind', ['OptimWrapper', 'AmpOptimWrapper'])
def test_mixed_precision_replaces_the_wrapper(load_tool, kind):
    cfg = merged(load_tool, dict(optim_wrapper=dict(type=kind)), '--amp')
    assert cfg.optim_wrapper == dict(
        type='AmpOptimWrapper', loss_scale='dynamic'
    )


def test_mixed_precision_keeps_a_loss_scale_of_the_config(load_tool):
    wrapper = dict(type=OptimWrapper, loss_scale=512.0)
    cfg = merged(load_tool, dict(optim_wrapper=wrapper), '--amp')
    assert cfg.optim_wrapper.loss_scale == 512


@pytest.mark.parametrize(
    'content', [{}, dict(optim_wrapper=dict(type='MyWrapper'))]
)
def test_mixed_precision_needs_a_stock_wrapper(load_tool, content):
    with pytest.raises(UserError, match='--amp expects optim_wrapper'):
        merged(load_tool, content, '--amp')


def test_the_learning_rate_is_scaled_from_a_base(load_tool):
    content = dict(auto_scale_lr=dict(base_batch_size=16))
    assert merged(load_tool, content, '--auto-scale-lr').auto_scale_lr.enable
    with pytest.raises(UserError, match='base_batch_size'):
        merged(load_tool, {}, '--auto-scale-lr')


def test_validation_can_be_left_out(load_tool):
    content = dict(val_cfg={}, val_dataloader={}, val_evaluator={})
    cfg = merged(load_tool, content, '--no-validate')
    assert cfg.val_cfg is None
    assert cfg.val_dataloader is None
    assert cfg.val_evaluator is None


def test_randomness_of_the_command_line_wins(load_tool):
    content = dict(randomness=dict(seed=1, deterministic=True))
    assert merged(load_tool, content).randomness.seed == 1
    cfg = merged(load_tool, content, '--seed', '7', '--diff-rank-seed')
    assert cfg.randomness == dict(
        seed=7, deterministic=True, diff_rank_seed=True
    )


def test_a_missing_data_set_is_one_line(setup, load_tool, capsys):
    tool = load_tool('train')
    argv = [
        str(setup.config), '--cfg-options',
        'train_dataloader.dataset.data_root=nowhere',
    ]  # fmt: skip
    assert run_tool(tool.main, 'train', argv) == EXIT_MISTAKE
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith('train: error: ')
    assert 'nowhere' in last


@pytest.mark.parametrize(
    ('script', 'files'), [('train', ['a.py']), ('test', ['a.py', 'a.pth'])]
)
def test_the_scripts_start_as_many_processes(run_command, script, files):
    path = TOOLS / f'dist_{script}.sh'
    done = run_command(path, *files, 2, '--x', PYTHON='echo', PORT='7')
    assert done.stdout.split() == [
        '-m', 'torch.distributed.run', '--nnodes=1', '--node_rank=0',
        '--master_addr=127.0.0.1', '--master_port=7', '--nproc_per_node=2',
        str(TOOLS / f'{script}.py'), *files, '--launcher', 'pytorch', '--x',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('script', 'usage'),
    [
        ('dist_train.sh', 'CONFIG PROCESSES'),
        ('dist_test.sh', 'CONFIG CHECKPOINT PROCESSES'),
    ],
)
def test_the_scripts_say_what_they_expect(run_command, script, usage):
    done = run_command(TOOLS / script)
    assert done.returncode == EXIT_MISTAKE
    assert usage in done.stderr


def test_two_machines_train_together(setup, run_command, tmp_path):
    """Each runs the script with its rank; here both are this machine."""
    script, work_dir = TOOLS / 'dist_train.sh', tmp_path / 'work'
    options = ['--work-dir', work_dir, '--seed', '0']
    variables = dict(NNODES='2', PORT=str(free_port()), OMP_NUM_THREADS='1')

    def train(rank):
        return run_command(
            script, setup.config, 1, *options, NODE_RANK=str(rank), **variables
        )

    with ThreadPoolExecutor(2) as machines:
        done = list(machines.map(train, range(2)))
    assert [one.returncode for one in done] == [EXIT_OK] * 2, done
    # Two batches of two of the four images are one iteration of both.
    assert {path.name for path in work_dir.glob('*.pth')} == {
        'iter_1.pth', 'iter_2.pth',
    }  # fmt: skip
    log = next(work_dir.glob('*/*.log')).read_text()
    assert 'GPU number: 2' in log

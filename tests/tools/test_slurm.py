"""The scripts for Slurm, with a srun that only writes down what it gets."""

import os

import pytest

from mmskip.apis.errors import EXIT_MISTAKE
from tests.tools.conftest import TOOLS

SRUN = r"""#!/bin/bash
printf '%s\n' "$MASTER_PORT" "$PYTHONPATH" "$@" >"$CALLS"
"""
SIZES = dict(GPUS='16', GPUS_PER_NODE='4', CPUS_PER_TASK='6', PORT='7')


@pytest.fixture
def srun(tmp_path, run_command):
    """Run a script; returns what srun got: port, path, arguments."""
    program = tmp_path / 'bin' / 'srun'
    program.parent.mkdir()
    program.write_text(SRUN)
    program.chmod(0o755)
    path = f'{program.parent}{os.pathsep}{os.environ["PATH"]}'
    calls = tmp_path / 'calls'

    def run(script, *arguments, **variables):
        done = run_command(
            TOOLS / script,
            *arguments,
            PATH=path,
            CALLS=str(calls),
            PYTHON='python3',
            **variables,
        )
        assert done.returncode == 0, done.stderr
        return calls.read_text().splitlines()

    return run


@pytest.mark.parametrize(
    ('script', 'last', 'passed'),
    [
        ('train', 'runs/my job', ['a.py', '--work-dir', 'runs/my job']),
        ('test', 'my model.pth', ['a.py', 'my model.pth']),
    ],
)
def test_tasks_are_as_many_as_gpus(srun, script, last, passed):
    port, path, *arguments = srun(
        f'slurm_{script}.sh', 'gpu', 'name', 'a.py', last, '--x', '1 2',
        SRUN_ARGS='--exclusive --mem=0', **SIZES,
    )  # fmt: skip
    assert port == '7'
    assert path.split(os.pathsep)[0] == f'{TOOLS}/..'
    assert arguments == [
        '--partition=gpu', '--job-name=name', '--ntasks=16',
        '--ntasks-per-node=4', '--gres=gpu:4', '--cpus-per-task=6',
        '--kill-on-bad-exit=1', '--exclusive', '--mem=0', 'python3', '-u',
        str(TOOLS / f'{script}.py'), *passed, '--launcher', 'slurm', '--x',
        '1 2',
    ]  # fmt: skip


def test_a_job_smaller_than_a_node_takes_no_more_than_it_uses(srun):
    _, _, *arguments = srun(
        'slurm_train.sh', 'gpu', 'name', 'a.py', 'work', GPUS='2'
    )
    assert {'--ntasks=2', '--ntasks-per-node=2', '--gres=gpu:2'} < {*arguments}


@pytest.mark.parametrize(
    ('script', 'usage'),
    [
        ('slurm_train.sh', 'PARTITION JOB_NAME CONFIG WORK_DIR'),
        ('slurm_test.sh', 'PARTITION JOB_NAME CONFIG CHECKPOINT'),
    ],
)
def test_the_scripts_say_what_they_expect(run_command, script, usage):
    done = run_command(TOOLS / script, 'gpu', 'name', 'a.py')
    assert done.returncode == EXIT_MISTAKE
    assert usage in done.stderr
    assert 'SRUN_ARGS' in done.stderr

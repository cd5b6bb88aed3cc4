"""Workers: processes of this machine and actors on Ray, killed at work."""

import os
import signal
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from mmskip.apis import UserError
from mmskip.apis.workers import ProcessWorkers, RayWorkers
from mmskip.reading import InputError


class Doubling:
    """Doubles numbers; some tasks end the process instead."""

    def __init__(self, folder):
        self.folder = Path(folder)
        (self.folder / f'built-{os.getpid()}').touch()

    def __call__(self, task):
        if task == 'broken':
            raise InputError('this task is broken')
        if task == 'deadly':
            os.kill(os.getpid(), signal.SIGKILL)
        if task == 'deadly once' and not self.met(task):
            os.kill(os.getpid(), signal.SIGKILL)
        if task == 'endless':
            (self.folder / 'endless').touch()
            time.sleep(600)
        return 2 * task

    def met(self, task):
        try:
            (self.folder / task).touch(exist_ok=False)
        except FileExistsError:
            return True
        return False


def refuse():
    raise UserError('there is no such model')


def crash():
    os.kill(os.getpid(), signal.SIGKILL)


def processes(build, count):
    return ProcessWorkers(build, count, ['tests.apis.test_workers'])


def results(outcomes):
    return {outcome.task: outcome[1:] for outcome in outcomes}


def test_a_process_that_dies_loses_nothing(tmp_path):
    tasks = [1, 'deadly once', 2, 'broken', 3, 'deadly', 4]
    workers = processes(partial(Doubling, tmp_path), 2)
    found = results(workers.run(tasks))
    assert found.pop('deadly') == (
        None,
        'the process that worked on it died (SIGKILL)',
    )
    assert found == {
        **{number: (2 * number, None) for number in (1, 2, 3, 4)},
        'broken': (None, 'this task is broken'),
        'deadly once': ('deadly once' * 2, None),
    }


def test_an_actor_that_dies_loses_nothing(tmp_path):
    pytest.importorskip('ray')
    tasks = [1, 'deadly once', 2, 'broken']
    workers = RayWorkers(partial(Doubling, tmp_path), 'local')
    handler = signal.getsignal(signal.SIGTERM)
    assert results(workers.run(tasks)) == {
        1: (2, None),
        2: (4, None),
        'broken': (None, 'this task is broken'),
        'deadly once': ('deadly once' * 2, None),
    }
    # One in place of the one that died.
    assert len(list(tmp_path.glob('built-*'))) <= os.cpu_count() + 1
    # Ray would end the program by itself.
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_cluster_that_is_not_there_is_refused(tmp_path):
    pytest.importorskip('ray')
    workers = RayWorkers(partial(Doubling, tmp_path), 'auto')
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(UserError, match=r'no cluster of Ray at .auto'):
        list(workers.run([1]))
    assert signal.getsignal(signal.SIGTERM) is handler


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    with pytest.raises(UserError, match=r'pip install .mmskip\[ray\]'):
        RayWorkers(refuse, 'auto')


def test_the_work_is_built_once_in_each_process(tmp_path):
    workers = processes(partial(Doubling, tmp_path), 2)
    assert len(results(workers.run(range(20)))) == 20
    assert len(list(tmp_path.iterdir())) == 2


def test_what_cannot_be_built_ends_all():
    with pytest.raises(UserError, match='no such model'):
        list(processes(refuse, 1).run([1, 2]))


def test_workers_that_die_without_end_are_not_started_for_ever():
    with pytest.raises(UserError, match=r'SIGKILL.*fewer --workers'):
        list(processes(crash, 2).run(range(100)))


def test_processes_end_with_the_iteration(tmp_path):
    workers = processes(partial(Doubling, tmp_path), 2)
    with closing(workers.run([1, 'endless'])) as outcomes:
        assert next(outcomes).value == 2
        while not (tmp_path / 'endless').exists():
            time.sleep(0.01)
        start = time.monotonic()
    assert time.monotonic() - start < 2
    for path in tmp_path.glob('built-*'):
        pid = path.name.removeprefix('built-')
        assert not Path(f'/proc/{pid}').exists()


def test_no_task_needs_no_worker(tmp_path):
    assert not list(processes(partial(Doubling, tmp_path), 2).run([]))
    assert not list(tmp_path.iterdir())

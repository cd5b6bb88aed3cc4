import io
import os
import signal
import threading

import pytest
from rich.console import Console

from mmskip.apis import UserError
from mmskip.experiments import Done, Job
from mmskip.experiments import run_jobs as run_and_stop


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=60)


def run_jobs(jobs, parallel, console):
    """Run jobs that nobody stops."""
    return run_and_stop(jobs, parallel, console, stop=pytest.fail)


def give(value, reused=False):
    return lambda given, tell: Done(value, str(value), reused)


def fail(given, tell):
    raise UserError('a mistake\nof the user')


@pytest.mark.parametrize('parallel', [1, 3])
def test_a_failure_loses_only_what_needs_it(console, parallel):
    jobs = [
        Job('a', give(1)),
        Job('b', fail),
        Job('c', give(2), needs=('b',)),
        Job('d', give(3), needs=('c',)),
        Job('e', give(4)),
    ]
    values, failed = run_jobs(jobs, parallel, console)
    assert values == {'a': 1, 'e': 4}
    assert failed == {
        'b': 'a mistake of the user',
        'c': 'left out, as b failed',
        'd': 'left out, as c failed',
    }
    text = console.file.getvalue()
    assert '/5 b: FAILED: a mistake of the user' in text
    assert text.count('\n') == 5


def test_a_bug_raises_when_the_others_are_done(console):
    done = []
    jobs = [
        Job('a', lambda given, tell: 1 / 0),
        Job('b', lambda given, tell: done.append('b') or Done(1, '')),
    ]
    with pytest.raises(ZeroDivisionError):
        run_jobs(jobs, 1, console)
    assert done == ['b']


@pytest.fixture
def _interrupts():
    """Interrupts raise, also where a shell has told to ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures('_interrupts')
def test_an_interrupt_stops_what_runs_and_begins_nothing_new(console):
    stopped, begun = threading.Event(), []

    def wait(given, tell):
        begun.append('a')
        os.kill(os.getpid(), signal.SIGINT)  # heard by the main thread
        assert stopped.wait(10)
        return Done(1, '')

    def other(given, tell):
        begun.append('b')
        return Done(2, '')

    jobs = [Job('a', wait), Job('b', other)]
    with pytest.raises(KeyboardInterrupt):
        run_and_stop(jobs, 1, console, stopped.set)
    assert begun == ['a']

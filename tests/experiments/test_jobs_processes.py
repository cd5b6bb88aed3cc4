import threading
import time

import pytest

from mmskip.apis import UserError
from mmskip.experiments import jobs as processes
from mmskip.experiments.jobs import Children, as_option, run_tool_process


def test_a_tool_runs_with_options_and_threads(tmp_path):
    script = tmp_path / 'tool.py'
    script.write_text(
        "import os, sys; print('eta: 1 day, 0:00:09')\n"
        "print(sys.argv[1:], os.environ['OMP_NUM_THREADS'])"
    )
    log, told = tmp_path / 'new/tool.log', []

    run_tool_process(
        [script, 1], {'a.b': (2, 3)}, log, 4, told.append, Children()
    )

    assert told == ['1 day, 0:00:09']
    last = log.read_text().splitlines()[-1]
    assert last == "['1', '--cfg-options', 'a.b=(2,3)'] 4"


def test_a_tool_that_fails_is_a_mistake_with_its_last_line(tmp_path):
    script = tmp_path / 'tool.py'
    script.write_text("raise SystemExit('tool: error: this fails')")
    with pytest.raises(UserError, match=r'this fails \(see .*tool.log\)'):
        run_tool_process(
            [script], {}, tmp_path / 'tool.log', None, str, Children()
        )


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


ENDLESS = (
    'import signal, sys, time\n'
    'def tidy(*_):\n'
    "    print('tidied', flush=True)\n"
    '    sys.exit(3)\n'
    'signal.signal(signal.SIGTERM, {handler})\n'
    "print('begun', flush=True)\n"
    'time.sleep(60)\n'
)


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize('handler', ['tidy', 'signal.SIG_IGN'])
def test_stopped_children_may_tidy_up_but_have_to_end(
    tmp_path, monkeypatch, handler
):
    monkeypatch.setattr(processes, 'GRACE_SECONDS', 1.0)
    script, log = tmp_path / 'tool.py', tmp_path / 'tool.log'
    script.write_text(ENDLESS.format(handler=handler))
    children, failures = Children(), []

    def work():
        try:
            run_tool_process([script], {}, log, None, str, children)
        except UserError as error:
            failures.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    wait_for(lambda: log.exists() and 'begun' in log.read_text())
    start = time.monotonic()
    children.stop()
    thread.join(10)

    assert not thread.is_alive()
    assert time.monotonic() - start < 3
    assert not children._running
    expected = 'tidied' if handler == 'tidy' else 'begun'
    assert failures == [f'{expected} (see {log})']

"""Signals that end a tool."""

import signal
import threading

import pytest

from mmskip.apis.errors import EXIT_INTERRUPTED, ending_as_interrupt, run_tool

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize('number', SIGNALS, ids=lambda n: n.name)
def test_a_tool_tidies_up_and_says_that_it_was_interrupted(number, capsys):
    before = list(map(signal.getsignal, SIGNALS))
    tidied = []

    def main(argv):
        try:
            signal.raise_signal(number)
        finally:
            tidied.append(number)

    assert run_tool(main, 'tool') == EXIT_INTERRUPTED
    assert tidied == [number]
    assert capsys.readouterr().err == 'tool: interrupted\n'
    assert list(map(signal.getsignal, SIGNALS)) == before


@pytest.mark.parametrize('first', SIGNALS, ids=lambda n: n.name)
@pytest.mark.parametrize('second', SIGNALS[1:], ids=lambda n: n.name)
def test_a_second_signal_does_not_disturb_the_tidying(first, second):
    done = []

    def main(argv):
        try:
            signal.raise_signal(first)
        finally:
            signal.raise_signal(second)
            done.append(True)

    assert run_tool(main, 'tool') == EXIT_INTERRUPTED
    assert done


def test_a_second_ctrl_c_is_heard():
    heard = []
    with ending_as_interrupt():
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                signal.raise_signal(number)
            except KeyboardInterrupt:
                heard.append(number)
    assert heard == [signal.SIGTERM, signal.SIGINT]


def test_signals_that_are_ignored_stay_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending_as_interrupt():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_may_run_tools():
    codes = []

    def work():
        codes.append(run_tool(lambda argv: 7, 'tool'))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert codes == [7]


def test_a_process_of_torchrun_ends_at_once(monkeypatch):
    # It may wait for others in a collective, where Python hears nothing.
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'none')
    before = list(map(signal.getsignal, SIGNALS))
    with ending_as_interrupt():
        assert list(map(signal.getsignal, SIGNALS)) == before

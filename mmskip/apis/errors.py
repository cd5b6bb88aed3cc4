"""Mistakes of a user: one line on stderr and exit code 2, no traceback."""

import atexit
import gc
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from mmskip.reading import InputError

#: Beside Ctrl-C: from ``kill`` or a batch system, and of a closed terminal.
ENDING = (signal.SIGTERM, signal.SIGHUP)
DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)
# A terminal that closes sends its signal twice; the second one must not cut
# short what the first one began.
QUIET_SECONDS = 5.0
EXIT_OK = 0
EXIT_INCOMPLETE = 1
EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 130
DEBUG_VARIABLE = 'MMSKIP_DEBUG'
# While one of these functions of mmengine runs, what goes wrong is what the
# config asked for (an unknown `type`, a wrong argument, a missing annotation
# file) or the checkpoint, not the program.
_CONFIG_DRIVEN = frozenset(
    ('build_from_cfg', 'load_checkpoint', '_load_checkpoint')
)
# While one of ours runs, a file cannot be where the user wants it.
_WRITERS = frozenset(('save_figure', 'write_csv', 'write_json'))
_MISTAKES = (
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    KeyError,
    OSError,
    pickle.UnpicklingError,
    RuntimeError,
    TypeError,
    ValueError,
)


@contextmanager
def ending_as_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise ``KeyboardInterrupt`` in a block.

    So files are finished and child processes ended on the way out. Within
    five seconds of one of them, or of Ctrl-C, another one changes nothing.
    Left alone are signals that are ignored already (``nohup``), threads but
    the main one, and the processes of a distributed launcher, which ends
    them by SIGTERM while they may be waiting for each other where Python
    does not notice.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or 'TORCHELASTIC_RUN_ID' in os.environ
    ):
        yield
        return
    quiet_until = 0.0

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal quiet_until
        now = time.monotonic()
        if number == signal.SIGINT or now >= quiet_until:
            quiet_until = now + QUIET_SECONDS
            raise KeyboardInterrupt

    before = {
        number: signal.signal(number, end)
        for number in (signal.SIGINT, *ENDING)
        if signal.getsignal(number) in DEFAULTS
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class UserError(Exception):
    """An error of what the user gave; the text says what to do."""


def one_line(error: BaseException) -> str:
    """Return an error's text without line breaks, ``KeyError`` unquoted."""
    text = str(error)
    if isinstance(error, KeyError) and len(error.args) == 1:
        text = str(error.args[0])
    return ' '.join(text.split()) or type(error).__name__


def explain_mistake(error: BaseException) -> str | None:
    """Describe in a line an error the user can mend; ``None`` for a bug.

    Args:
        error: A caught exception, with its traceback.

    Returns:
        The text of a :class:`UserError` or
        :class:`mmskip.reading.InputError`, or of an error that was raised
        while mmengine built something from the config or read a checkpoint,
        or while results were written.
    """
    if isinstance(error, (UserError, InputError)):
        return one_line(error)
    if not isinstance(error, _MISTAKES):
        return None
    running = {
        frame.f_code.co_name
        for frame, _ in traceback.walk_tb(error.__traceback__)
    }
    if running & _CONFIG_DRIVEN:
        return f'{type(error).__name__}: {one_line(error)}'
    if isinstance(error, OSError) and running & _WRITERS:
        return f'cannot write: {one_line(error)}'
    return None


def run_tool(
    main: Callable[[Sequence[str] | None], int],
    name: str,
    argv: Sequence[str] | None = None,
) -> int:
    """Run a command line tool and turn mistakes into an exit code.

    Args:
        main: Takes the arguments, returns the exit code.
        name: Name of the tool, begins the error line.
        argv: Arguments without the program's name; ``None`` reads
            ``sys.argv``.

    Returns:
        What ``main`` returned; 2 after a mistake (with one line on stderr);
        130 after Ctrl-C, SIGTERM or SIGHUP. With the environment variable
        ``MMSKIP_DEBUG`` set, mistakes raise with their traceback.
    """
    try:
        with ending_as_interrupt():
            return main(argv)
    except KeyboardInterrupt:
        # Python looks for cycles in all that was imported as it ends, which
        # takes seconds.
        atexit.register(gc.freeze)
        print(f'{name}: interrupted', file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        text = explain_mistake(error)
        if text is None or os.environ.get(DEBUG_VARIABLE):
            raise
        print(
            f'{name}: error: {text} [{DEBUG_VARIABLE}=1 shows the traceback]',
            file=sys.stderr,
        )
        return EXIT_MISTAKE

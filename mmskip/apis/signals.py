"""Signals that end a program end it in order, as Ctrl-C does."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: Beside Ctrl-C: from ``kill`` or a batch system, and of a closed terminal.
ENDING = (signal.SIGTERM, signal.SIGHUP)
DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)
# A terminal that closes sends its signal twice; the second one must not cut
# short what the first one began.
QUIET_SECONDS = 5.0


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

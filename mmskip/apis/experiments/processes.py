"""Tools as processes, and options as their command lines take them."""

import argparse
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import DictAction

from mmskip.apis.errors import UserError

# What mmengine's lines of progress say about the time that is left.
ETA = re.compile(r'\beta: ((?:\d+ days?, )?[\d:]+)')
# What the tools import mmskip from: the same as this process.
SOURCES = Path(__file__).resolve().parents[3]
# Until a process that was asked to end is ended.
GRACE_SECONDS = 5.0


def run_tool_process(
    command: Sequence[Any],
    options: Mapping[str, Any],
    path: Path,
    threads: int | None,
    tell: Callable[[str], Any],
    children: 'Children',
) -> None:
    """Run a tool to its end.

    Args:
        command: The script and its arguments.
        options: Dotted keys of its config to values.
        path: The log, of the command line and all that the tool prints.
        threads: CPU threads; ``None`` leaves it to torch.
        tell: Takes the time left, as often as the tool tells it.
        children: Those that the process belongs to.

    Raises:
        UserError: The tool fails, or is stopped.
    """
    program = [sys.executable, *map(str, command)]
    if options:
        program += ['--cfg-options', *map(as_option, options.items())]
    path.parent.mkdir(parents=True, exist_ok=True)
    last = ''
    with (
        path.open('w', buffering=1, encoding='utf-8') as log,
        children.start(
            program,
            env=_environment(threads),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding='utf-8',
            errors='replace',
        ) as child,
    ):
        log.write(shlex.join(program) + '\n')
        for line in child.stdout:
            log.write(line)
            last = line.strip() or last
            eta = ETA.search(line)
            if eta:
                tell(eta[1])
    if child.returncode:
        raise UserError(f'{last or "no output"} (see {path})')


class Children:
    """Processes that do not outlive what started them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen] = set()
        self._stopped = False

    @contextmanager
    def start(
        self, program: Sequence[str], **options: Any
    ) -> Iterator[subprocess.Popen]:
        """Start a process; it has ended when the block is left.

        Args:
            program: The program and its arguments.
            options: As of :class:`subprocess.Popen`.

        Yields:
            The process; after an error in the block it is ended.

        Raises:
            UserError: The processes were stopped.
        """
        with self._lock:
            if self._stopped:
                raise UserError('not started: interrupted')
            child = subprocess.Popen(program, **options)
            self._running.add(child)
        try:
            with child:
                try:
                    yield child
                except BaseException:
                    _end([child])
                    raise
        finally:
            with self._lock:
                self._running.discard(child)

    def stop(self) -> None:
        """End all of them, and start no more."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        _end(running)


def _end(children: Collection[subprocess.Popen]) -> None:
    """Ask processes to end, and make those that do not.

    Their own children are theirs to end: hence they are asked first.
    """
    for child in children:
        child.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    for child in children:
        try:
            child.wait(max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()


def as_option(item: tuple[str, Any]) -> str:
    """A dotted key and its value as ``--cfg-options`` takes them.

    Raises:
        UserError: The tool would read another value (spaces and commas in a
            path, a dict).
    """
    key, value = item
    text = f'{key}={_as_text(value)}'
    parser = argparse.ArgumentParser()
    parser.add_argument('options', nargs='+', action=DictAction)
    read = parser.parse_args([text]).options[key]
    if read != value:
        raise UserError(
            f'{key}={value!r} cannot be told on a command line: it would be '
            f'read as {read!r}'
        )
    return text


def _as_text(value: Any) -> str:
    ends = {list: '[]', tuple: '()'}.get(type(value))
    if ends is None:
        return str(value)
    return f'{ends[0]}{",".join(map(_as_text, value))}{ends[1]}'


def _environment(threads: int | None) -> dict[str, str]:
    """That of this process, with the same mmskip and the threads."""
    paths = [str(SOURCES), os.environ.get('PYTHONPATH')]
    found = dict(os.environ)
    found['PYTHONPATH'] = os.pathsep.join(filter(None, paths))
    found['PYTHONUNBUFFERED'] = '1'
    if threads is not None:
        found['OMP_NUM_THREADS'] = str(threads)
    return found

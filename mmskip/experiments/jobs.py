"""Tools as processes, and many of them, several at a time."""

import argparse
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from mmengine.config import DictAction
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from mmskip.apis import UserError
from mmskip.apis.errors import one_line

# What mmengine's lines of progress say about the time that is left.
ETA = re.compile(r'\beta: ((?:\d+ days?, )?[\d:]+)')
# What the tools import mmskip from: the same as this process.
SOURCES = Path(__file__).resolve().parents[3]
# Until a process that was asked to end is ended.
GRACE_SECONDS = 5.0
# Without a terminal, what runs is told so often.
LINE_SECONDS = 30.0
Tell = Callable[[str], Any]


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
            options: Passed on to :class:`subprocess.Popen`.

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


def as_option(item: tuple[str, Any]) -> str:
    """Return a dotted key and its value as ``--cfg-options`` takes them.

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


@dataclass(frozen=True)
class Done:
    """The result of a job, for those that wait for it.

    Attributes:
        value: For the caller, and for the jobs that need this one.
        text: What is shown, one line.
        reused: Whether it was there already; it then says nothing about how
            long the others take.
    """

    value: Any
    text: str
    reused: bool = False


@dataclass(frozen=True)
class Job:
    """A thing to do, and what has to be done before.

    Attributes:
        name: What it is called; unlike the others.
        work: Does it. Takes what the jobs it needs gave, by name, and a
            function for the time left, as text.
        needs: Names of jobs that come before it in the list.
        effort: How long it takes, about, in units of what others take.
    """

    name: str
    work: Callable[[Mapping[str, Any], Tell], Done]
    needs: tuple[str, ...] = ()
    effort: float = 1.0


def run_jobs(
    jobs: Sequence[Job],
    parallel: int,
    console: Console,
    stop: Callable[[], Any],
) -> tuple[dict[str, Any], dict[str, str]]:
    """Do all jobs, in order but for those that run at the same time.

    Args:
        jobs: In an order in which needs come first.
        parallel: How many at a time, in threads: for work that waits for
            processes.
        console: Where progress is shown.
        stop: Makes jobs that run end soon; called after an interrupt.

    Returns:
        Values by name, and for the jobs that failed why, one line each. A
        mistake of the program raises at the end, when all others are done.
    """
    failed: dict[str, str] = {}
    bugs: list[BaseException] = []
    futures: dict[str, Future] = {}
    pool = ThreadPoolExecutor(parallel)
    with JobProgress(jobs, parallel, console) as progress:
        try:
            for job in jobs:
                needs = {name: futures[name] for name in job.needs}
                futures[job.name] = pool.submit(_run, job, needs, progress)
            names = {future: name for name, future in futures.items()}
            for future in as_completed(names):
                error = future.exception()
                if isinstance(error, UserError):
                    failed[names[future]] = one_line(error)
                elif error is not None:
                    bugs.append(error)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            stop()
            raise
        finally:
            pool.shutdown()
    if bugs:
        raise bugs[0]
    values = {
        name: future.result().value
        for name, future in futures.items()
        if name not in failed
    }
    return values, {
        job.name: failed[job.name] for job in jobs if job.name in failed
    }


class JobProgress:
    """A bar with what runs now, and a line for each job that ended.

    Args:
        jobs: The jobs.
        parallel: How many run at a time.
        console: Where to show it.
    """

    def __init__(
        self, jobs: Sequence[Job], parallel: int, console: Console
    ) -> None:
        total = len(jobs)
        self._lock = threading.Lock()
        self._total = total
        self._console = console
        self._ended = 0
        self._next_line = time.monotonic() + LINE_SECONDS
        #: Effort of the jobs that have not ended.
        self._efforts = {job.name: job.effort for job in jobs}
        self._worked = 0.0
        self._seconds = 0.0
        self._parallel = min(parallel, total)
        self._begun: dict[str, float] = {}
        self._running: dict[str, TaskID] = {}
        self._bar = Progress(
            TextColumn('{task.description}', markup=False),
            BarColumn(bar_width=20),
            TextColumn('{task.fields[left]}', markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._all = self._bar.add_task('all', total=total, left='')

    def __enter__(self) -> 'JobProgress':
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def begin(self, name: str) -> None:
        """Show that a job starts."""
        self._begun[name] = time.monotonic()
        self._running[name] = self._bar.add_task(name, total=None, left='')

    def tell(self, name: str, eta: str) -> None:
        """Take note of how long this part of a job will take."""
        left = f'{eta} left of this part'
        self._bar.update(self._running[name], left=left)
        with self._lock:
            now = time.monotonic()
            if self._console.is_terminal or now < self._next_line:
                return
            self._next_line = now + LINE_SECONDS
            self._print(f'{name}: {left}')

    def end(self, name: str, text: str, reused: bool | None) -> None:
        """Show that a job has ended; ``reused`` is None if it failed."""
        with self._lock:
            self._ended += 1
            effort = self._efforts.pop(name)
            if name in self._running:
                self._bar.remove_task(self._running.pop(name))
                if reused is False:
                    self._worked += effort
                    self._seconds += time.monotonic() - self._begun[name]
            left = self.time_left()
            self._bar.update(self._all, completed=self._ended, left=left)
            again = ', as before' if reused else ''
            self._print(
                f'{self._ended}/{self._total} {name}: {text}{again}'
                f'{left and f"; {left}"}'
            )

    def _print(self, line: str) -> None:
        self._console.print(
            line, soft_wrap=True, highlight=False, markup=False
        )

    def time_left(self) -> str:
        """Estimate it from the mean of the jobs that had something to do."""
        if not self._efforts or not self._worked:
            return ''
        waiting = sum(self._efforts.values()) / self._parallel
        minutes = self._seconds / self._worked * waiting / 60
        if minutes < 1:
            return f'about {60 * minutes:.0f} s left'
        return f'about {minutes:.0f} min left'


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


def _as_text(value: Any) -> str:
    ends = {list: '[]', tuple: '()'}.get(type(value))
    if ends is None:
        return str(value)
    return f'{ends[0]}{",".join(map(_as_text, value))}{ends[1]}'


def _environment(threads: int | None) -> dict[str, str]:
    """Return this process's environment, with mmskip and the threads set."""
    paths = [str(SOURCES), os.environ.get('PYTHONPATH')]
    found = dict(os.environ)
    found['PYTHONPATH'] = os.pathsep.join(filter(None, paths))
    found['PYTHONUNBUFFERED'] = '1'
    if threads is not None:
        found['OMP_NUM_THREADS'] = str(threads)
    return found


def _run(
    job: Job, needs: Mapping[str, Future], progress: 'JobProgress'
) -> Done:
    # Needs come first in the queue: they run or have run.
    given = {}
    for name, future in needs.items():
        if future.exception() is not None:
            progress.end(job.name, f'left out, as {name} failed', None)
            raise UserError(f'left out, as {name} failed')
        given[name] = future.result().value
    progress.begin(job.name)
    try:
        done = job.work(given, lambda eta: progress.tell(job.name, eta))
    except BaseException as error:
        progress.end(job.name, f'FAILED: {one_line(error)}', None)
        raise
    progress.end(job.name, done.text, done.reused)
    return done

"""Do many things, several at a time; one that fails spoils no other."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from mmskip.apis.errors import UserError, one_line

# Without a terminal, what runs is told so often.
LINE_SECONDS = 30.0

Tell = Callable[[str], Any]


@dataclass(frozen=True)
class Done:
    """What a job gives back.

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
    """One thing to do.

    Attributes:
        name: What it is called; unlike the others.
        work: Does it. Takes what the jobs it needs gave, by name, and a
            function for the time left, as text.
        needs: Names of jobs that come before it in the list.
    """

    name: str
    work: Callable[[Mapping[str, Any], Tell], Done]
    needs: tuple[str, ...] = ()


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
    with JobProgress(len(jobs), parallel, console) as progress:
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


class JobProgress:
    """A bar with what runs now, and a line for each job that ended.

    Args:
        total: Number of jobs.
        parallel: How many run at a time.
        console: Where to show it.
    """

    def __init__(self, total: int, parallel: int, console: Console) -> None:
        self._lock = threading.Lock()
        self._total = total
        self._console = console
        self._ended = 0
        self._next_line = time.monotonic() + LINE_SECONDS
        self._worked = 0
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
        """A job starts."""
        self._begun[name] = time.monotonic()
        self._running[name] = self._bar.add_task(name, total=None, left='')

    def tell(self, name: str, eta: str) -> None:
        """A job knows how long this part of it will take."""
        left = f'{eta} left of this part'
        self._bar.update(self._running[name], left=left)
        with self._lock:
            now = time.monotonic()
            if self._console.is_terminal or now < self._next_line:
                return
            self._next_line = now + LINE_SECONDS
            self._print(f'{name}: {left}')

    def end(self, name: str, text: str, reused: bool | None) -> None:
        """A job has ended; ``reused`` is None if it failed."""
        with self._lock:
            self._ended += 1
            if name in self._running:
                self._bar.remove_task(self._running.pop(name))
                if reused is False:
                    self._worked += 1
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
        """From the mean of the jobs that had something to do."""
        waiting = self._total - self._ended
        if not waiting or not self._worked:
            return ''
        mean = self._seconds / self._worked
        minutes = mean * waiting / self._parallel / 60
        if minutes < 1:
            return f'about {60 * minutes:.0f} s left'
        return f'about {minutes:.0f} min left'

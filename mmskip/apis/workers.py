"""Workers that do tasks: processes of this machine, or actors on Ray.

Each builds what does the work once, then takes one task after another. One
that dies loses nothing but its task, which is tried once more.
"""

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from .errors import UserError, explain_mistake, one_line

Work = Callable[[Any], Any]
# A task is given up when so many workers have died of it.
ATTEMPTS = 2
# So many deaths without a task done in between are not the tasks' fault.
DEATHS = 6
# Until a process that was asked to end is ended.
GRACE_SECONDS = 0.5
DIED = 'the process that worked on it died'
ADVICE = 'is there memory for so many? Try fewer --workers'


class Outcome(NamedTuple):
    """The end of a task.

    Attributes:
        task: The task.
        value: What the work returned; ``None`` if it failed.
        error: Why it failed, one line; ``None`` if it did not.
    """

    task: Any
    value: Any
    error: str | None = None


class Workers(Protocol):
    """Several workers that share the tasks among themselves."""

    def run(self, tasks: Sequence[Any]) -> Iterator[Outcome]:
        """Do all tasks, in order but for those at the same time.

        Args:
            tasks: Things that can be pickled.

        Yields:
            Outcomes as they come.

        Raises:
            UserError: A worker cannot begin, or they die without end.
        """


class ProcessWorkers:
    """Processes of this machine.

    They are forks of one that has imported ``preload``, so that they begin
    at once. All end when the iteration is left.

    Args:
        build: Makes the work in each process; can be pickled.
        count: Number of processes.
        preload: Modules that the work needs.
    """

    def __init__(
        self,
        build: Callable[[], Work],
        count: int,
        preload: Sequence[str] = (),
    ) -> None:
        self._build = build
        self._count = count
        self._context = multiprocessing.get_context('forkserver')
        self._context.set_forkserver_preload(list(preload))

    def run(self, tasks: Sequence[Any]) -> Iterator[Outcome]:
        """Do all tasks, see :class:`Workers`."""
        waiting = deque((task, 1) for task in tasks)
        busy: dict[connection.Connection, _Process] = {}
        deaths = 0
        try:
            while waiting or busy:
                while waiting and len(busy) < self._count:
                    process = _Process(self._context, self._build)
                    busy[process.line] = process
                    process.give(*waiting.popleft())
                for line in connection.wait(list(busy)):
                    process = busy[line]
                    answer = process.answer()
                    if answer is not None:
                        deaths = 0
                        yield _outcome(process.task, answer)
                        if waiting:
                            process.give(*waiting.popleft())
                            continue
                    elif (deaths := deaths + 1) >= DEATHS:
                        raise UserError(_endless(process.why()))
                    elif process.attempt < ATTEMPTS:
                        waiting.append((process.task, process.attempt + 1))
                    else:
                        yield Outcome(process.task, None, process.why())
                    del busy[line]
                    process.end()
        finally:
            _end([process.process for process in busy.values()])


class RayWorkers:
    """Actors of a cluster that is there, or of one for this process alone.

    Args:
        build: Makes the work in each actor; can be pickled.
        address: Of the cluster: ``auto`` finds the one that this machine
            belongs to, ``ray://HOST:PORT`` is a client's, and ``local``
            begins one on this machine that ends with the iteration.
        count: Number of actors; ``None`` takes as many as the cluster has
            room for.
        threads: CPUs of each.

    Raises:
        UserError: Ray is not installed.
    """

    def __init__(
        self,
        build: Callable[[], Work],
        address: str,
        count: int | None = None,
        threads: int = 1,
    ) -> None:
        self._ray = _import_ray()
        self._build = build
        self._address = address
        self._count = count
        self._threads = threads

    def run(self, tasks: Sequence[Any]) -> Iterator[Outcome]:
        """Do all tasks, see :class:`Workers`."""
        ray = self._ray
        if not tasks:
            return
        options = dict(log_to_driver=False, configure_logging=False)
        if self._address == 'local':
            options['include_dashboard'] = False
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address=self._address, **options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(
                f'no cluster of Ray at {self._address!r}: {one_line(error)}; '
                'start one with `ray start --head`, or name another address'
            ) from error
        finally:
            # Ray's own would end the program past what it has to complete;
            # it is there even where no cluster was found.
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)
        try:
            yield from self._run(tasks)
        finally:
            ray.shutdown()

    def _run(self, tasks: Sequence[Any]) -> Iterator[Outcome]:
        ray = self._ray
        kind = ray.remote(
            num_cpus=self._threads,
            max_restarts=-1,
            max_task_retries=ATTEMPTS - 1,
        )(_Server)
        waiting, deaths = deque(tasks), 0
        count, folder = self._room(tasks), os.getcwd()
        actors = [kind.remote(self._build, folder) for _ in range(count)]
        busy = {}
        for actor in actors:
            task = waiting.popleft()
            busy[actor.answer.remote(task)] = actor, task
        while busy:
            (done,), _ = ray.wait(list(busy))
            actor, task = busy.pop(done)
            try:
                outcome = _outcome(task, ray.get(done))
                deaths = 0
            except ray.exceptions.RayError as error:
                deaths += ATTEMPTS
                why = f'{DIED} ({one_line(error)})'
                if deaths >= DEATHS:
                    raise UserError(_endless(why)) from error
                outcome = Outcome(task, None, why)
            if waiting:
                following = waiting.popleft()
                busy[actor.answer.remote(following)] = actor, following
            yield outcome

    def _room(self, tasks: Sequence[Any]) -> int:
        cpus = self._ray.cluster_resources().get('CPU', 1)
        room = max(1, int(cpus // self._threads))
        return min(len(tasks), self._count or room)


class _Server:
    """Builds the work, does tasks, and puts what goes wrong into words."""

    def __init__(
        self, build: Callable[[], Work], folder: str | None = None
    ) -> None:
        self._refusal: str | None = None
        try:
            if folder is not None:  # that paths are relative to
                os.chdir(folder)
            self._work = build()
        except Exception as error:
            self._refusal = _explain(error)

    def answer(self, task: Any) -> tuple[str, Any]:
        """Do a task; returns what kind of answer this is, and the answer."""
        if self._refusal is not None:
            return 'refused', self._refusal
        try:
            return 'done', self._work(task)
        except Exception as error:
            return 'failed', _explain(error)


class _Process:
    """A process with a server, and the task that it has.

    Attributes:
        line: Its answers, and the end of it.
    """

    def __init__(
        self,
        context: multiprocessing.context.BaseContext,
        build: Callable[[], Work],
    ) -> None:
        self.line, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=_serve, args=(theirs, build), daemon=True
        )
        self.process.start()
        theirs.close()
        self.task: Any = None
        self.attempt = 0

    def give(self, task: Any, attempt: int) -> None:
        """Give it a task; a process that is dead is told by its answer."""
        self.task, self.attempt = task, attempt
        try:
            self.line.send(task)
        except OSError:
            return

    def answer(self) -> tuple[str, Any] | None:
        """Return its answer, ``None`` if it died."""
        try:
            return self.line.recv()
        except (EOFError, OSError):
            return None

    def why(self) -> str:
        """Say how it died."""
        self.process.join(GRACE_SECONDS)
        code = self.process.exitcode
        if code is not None and code < 0:
            return f'{DIED} ({signal.Signals(-code).name})'
        return f'{DIED} (exit code {code})'

    def end(self) -> None:
        """End the process, which has nothing to do."""
        self.line.close()
        _end([self.process])


def _serve(line: connection.Connection, build: Callable[[], Work]) -> None:
    """Answer tasks until there are no more."""
    # A terminal tells it to all; the process that began this one ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A bar is drawn there, and libraries say there what they load.
    with open(os.devnull, 'w') as nowhere:
        os.dup2(nowhere.fileno(), 1)
    if not sys.warnoptions:  # each would tell the same
        warnings.simplefilter('ignore')
    server = _Server(build)
    while True:
        try:
            line.send(server.answer(line.recv()))
        except (EOFError, OSError):  # nobody is there any more
            return


def _outcome(task: Any, answer: tuple[str, Any]) -> Outcome:
    kind, value = answer
    if kind == 'refused':
        raise UserError(value)
    return Outcome(task, *((value,) if kind == 'done' else (None, value)))


def _explain(error: Exception) -> str:
    text = explain_mistake(error)
    return text or f'{type(error).__name__}: {one_line(error)}'


def _endless(why: str) -> str:
    return f'{DEATHS} workers in a row died, the last: {why}; {ADVICE}'


def _end(processes: Sequence[BaseProcess]) -> None:
    """Ask processes to end, and make those that do not."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(GRACE_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()


def _import_ray() -> ModuleType:
    # It would report to its authors what runs here.
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    try:
        return import_module('ray')
    except ImportError as error:
        raise UserError(
            f'--ray needs Ray, which cannot be imported ({error}); install '
            "it with pip install 'mmskip[ray]'"
        ) from error

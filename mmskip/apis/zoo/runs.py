"""Check models, a process for each: a crash or a hang is a row."""

import resource
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import chdir
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from tempfile import TemporaryDirectory

import torch

from mmskip.apis.zoo.checking import check_model
from mmskip.apis.zoo.configs import ZooModel
from mmskip.apis.zoo.rows import Row

#: What checks a model in the given modes.
Check = Callable[[ZooModel, Sequence[str]], list[Row]]


@dataclass(frozen=True)
class Limits:
    """What a model may take.

    Attributes:
        seconds: From the start of its process.
        gibibytes: Of address space.
    """

    seconds: float = 600.0
    gibibytes: float = 16.0


DEFAULT = Limits()


def run_models(
    models: Sequence[ZooModel],
    modes: Sequence[str],
    on_rows: Callable[[ZooModel, list[Row]], None],
    jobs: int = 1,
    limits: Limits = DEFAULT,
    check: Check = check_model,
) -> None:
    """Check models and hand over the rows of each as they come.

    Args:
        models: To check, in this order.
        modes: ``stream``, ``plan`` or both.
        on_rows: Gets a model and a row for each mode.
        jobs: How many at a time.
        limits: Of each.
        check: Runs in a process of its own.
    """
    # Its processes are copies of one that has imported what they need, and
    # start at once.
    context = get_context('forkserver')
    context.set_forkserver_preload(
        [__name__, *sorted({f'{m.host}.models' for m in models})]
    )
    waiting = deque(models)
    running: list[_Run] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                work = check, waiting.popleft(), tuple(modes), limits
                running.append(_Run(context, *work))
            ends = [run.end for run in running]
            patience = max(min(ends) - time.monotonic(), 0)
            ready = wait([run.connection for run in running], patience)
            for run in list(running):
                late = run.end <= time.monotonic()
                if run.connection in ready or late:
                    running.remove(run)
                    on_rows(run.model, run.finish())
    finally:
        for run in running:
            run.stop()


class _Run:
    """A model that is checked in a process."""

    def __init__(self, context, check, model, modes, limits) -> None:
        self.model = model
        self._modes = modes
        self._limits = limits
        self._begin = time.monotonic()
        self.end = self._begin + limits.seconds
        self.connection, other = context.Pipe(duplex=False)
        self._process: BaseProcess = context.Process(
            target=_work,
            args=(other, check, model, modes, limits.gibibytes),
            daemon=True,
        )
        self._process.start()
        other.close()

    def finish(self) -> list[Row]:
        """Its rows, or those that say why there are none."""
        rows = None
        if self.connection.poll():
            try:
                rows = self.connection.recv()
            except EOFError:
                self._process.join()
        reason = f'timed out after {self._limits.seconds:g} s'
        if not self._process.is_alive() and rows is None:
            reason = _cause(self._process.exitcode)
        self.stop()
        if rows is not None:
            return rows
        seconds = time.monotonic() - self._begin
        return [
            Row(
                self.model.host,
                self.model.name,
                mode,
                'fails',
                reason,
                seconds=round(seconds, 1),
                configs=self.model.configs,
            )
            for mode in self._modes
        ]

    def stop(self) -> None:
        """End the process, however it is."""
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self.connection.close()


def _cause(code: int) -> str:
    if code < 0:
        return f'the process died of {signal.Signals(-code).name}'
    return f'the process ended with code {code}'


def _work(
    connection: Connection,
    check: Check,
    model: ZooModel,
    modes: Sequence[str],
    gibibytes: float,
) -> None:
    limit = int(gibibytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    torch.set_num_threads(1)
    # Some models make folders where they are.
    with TemporaryDirectory() as folder, chdir(folder):
        connection.send(check(model, modes))
    connection.close()

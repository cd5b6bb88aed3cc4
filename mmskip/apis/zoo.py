"""Check that models with open gates compute what they do without any."""

import csv
import json
import resource
import signal
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import chdir
from dataclasses import asdict, dataclass, fields, replace
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from mmskip.core import convert, revert
from mmskip.plan import accelerate, propagate_changes
from mmskip.skip_conv import SkipConversion, SkipConvMixin, StreamState, stream

from .errors import one_line
from .zoo_models import (
    Frames,
    Probe,
    ZooModel,
    candidate_frames,
    draw_weights,
    inner_model,
    largest_error,
    taking_statistics,
)

#: What a model can come to, in the order of the table.
STATUSES = (
    'equal',
    'differs',
    'undetermined',
    'fails',
    'refused',
    'does not run densely',
)
#: Largest difference, as a share of the largest value of a tensor.
TOLERANCE = 1e-4
#: What is done to a converted model before it runs, by the name of a mode.
MODES: dict[str, Callable[[nn.Module], Any]] = {
    'stream': lambda model: None,
    'plan': propagate_changes,
    'fast': accelerate,
}
Outputs = list[dict[str, list[Tensor]]]


@dataclass(frozen=True)
class ZooRow:
    """The outcome of checking a model in one mode.

    Attributes:
        host: Its package.
        model: Name, see :class:`.zoo_models.ZooModel`.
        mode: ``stream`` or ``plan``.
        status: One of :data:`STATUSES`; ``undetermined`` if the dense model
            differs from itself as soon as the last bits of its pictures do.
        reason: Why it is not equal, or the largest error.
        error: Largest difference, as a share of the largest value of its
            tensor; None where nothing could be compared.
        size: Size of a frame, ``1x3x128x128``.
        layers: Number of converted layers.
        planned: How many of them run in a plan.
        seconds: For the model, in all modes.
        configs: All configs of the model.
    """

    host: str
    model: str
    mode: str
    status: str
    reason: str = ''
    error: float | None = None
    size: str = ''
    layers: int = 0
    planned: int = 0
    seconds: float = 0.0
    configs: tuple[str, ...] = ()


def read_rows(path: Path) -> list[ZooRow]:
    """Read the rows that were kept, the last one of a model and mode.

    A line that was not written to its end is left out.

    Args:
        path: A file of :func:`append_row`, or one that is not there yet.
    """
    if not path.exists():
        return []
    rows: dict[tuple[str, str], ZooRow] = {}
    for line in path.read_text().splitlines():
        try:
            content = json.loads(line)
        except json.JSONDecodeError:
            continue
        content['configs'] = tuple(content['configs'])
        row = ZooRow(**content)
        rows[row.model, row.mode] = row
    return list(rows.values())


def append_row(path: Path, row: ZooRow) -> None:
    """Keep a row, on a line of its own."""
    with path.open('a') as file:
        file.write(json.dumps(asdict(row)) + '\n')


def write_tables(out: Path, host: str, rows: Iterable[ZooRow]) -> str:
    """Write a table as CSV, JSON and markdown.

    Args:
        out: Folder; the files are called as the host.
        host: Package.
        rows: Rows of the table.

    Returns:
        The markdown.
    """
    rows = sorted(rows, key=lambda row: (row.mode != 'stream', row.model))
    names = [field.name for field in fields(ZooRow)]
    with (out / f'{host}.csv').open('w', newline='') as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for row in rows:
            writer.writerow({**asdict(row), 'configs': ' '.join(row.configs)})
    content = json.dumps([asdict(row) for row in rows], indent=1)
    (out / f'{host}.json').write_text(content + '\n')
    text = markdown(host, rows)
    (out / f'{host}.md').write_text(text)
    return text


def markdown(host: str, rows: Sequence[ZooRow]) -> str:
    """Write counts by status, then the rows that are not equal, and why.

    Args:
        host: Package.
        rows: Rows of the table.
    """
    modes = list(dict.fromkeys(row.mode for row in rows))
    counts = Counter((row.status, row.mode) for row in rows)
    configs = {c for row in rows for c in row.configs}
    num_models = len({row.model for row in rows})
    lines = [
        f'## {host}',
        '',
        f'{num_models} distinct models of {len(configs)} configs.',
        '',
        '| | ' + ' | '.join(modes) + ' |',
        '|---|' + '---|' * len(modes),
    ]
    for status in STATUSES:
        figures = ' | '.join(str(counts[status, mode]) for mode in modes)
        lines.append(f'| {status} | {figures} |')
    errors = [row.error for row in rows if row.status == 'equal']
    if errors:
        lines += ['', f'Largest error of an equal one: {max(errors):.1e}.']
    for status in STATUSES[1:]:
        lines += _listed(status, [r for r in rows if r.status == status])
    return '\n'.join(lines) + '\n'


class NotDenseError(Exception):
    """The model does not run as it is; the text says why."""


def check_model(entry: ZooModel, modes: Sequence[str]) -> list[ZooRow]:
    """Build a model with random weights and run it on three frames.

    Args:
        entry: Which model.
        modes: Keys of :data:`MODES`.

    Returns:
        A row for each mode.
    """
    begin = time.monotonic()
    torch.manual_seed(0)
    blank = ZooRow(entry.host, entry.name, '', '', configs=entry.configs)
    rows = [replace(blank, mode=mode) for mode in modes]
    try:
        rows = list(_check(entry, rows))
    except NotDenseError as error:
        text = str(error)
        rows = [
            replace(row, status='does not run densely', reason=text)
            for row in rows
        ]
    seconds = round(time.monotonic() - begin, 1)
    return [replace(row, seconds=seconds) for row in rows]


def open_gates() -> SkipConversion:
    """Return a conversion whose layers compute all that changed at all."""
    gate = dict(type='OutputNormGate', threshold=0.0)
    return SkipConversion(gate, memory='accumulated')


def without_weights(config: Any) -> Any:
    """Return the same config without any pretrained weights."""
    if isinstance(config, dict):
        return type(config)(
            {
                # Some constructors insist on `pretrained`; others hand an
                # `init_cfg` of None to their blocks, which do not know it.
                key: None if key == 'pretrained' else without_weights(value)
                for key, value in config.items()
                if key != 'init_cfg'
            }
        )
    if isinstance(config, (list, tuple)):
        return type(config)(without_weights(value) for value in config)
    return config


@torch.no_grad()
def run(probe: Probe, frames: Frames) -> Outputs:
    """Return the raw outputs of all frames."""
    return [probe.record(image, frames.samples) for image in frames.images]


def describe(error: BaseException, length: int = 160) -> str:
    """Describe an error in one line: where it was raised, and its text."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = f'{type(error).__name__}: {one_line(error)}'
    if len(text) > length:
        text = f'{text[: length - 3]}...'
    return f'{text} ({last.name})'


#: What checks a model in the given modes.
Check = Callable[[ZooModel, Sequence[str]], list[ZooRow]]


@dataclass(frozen=True)
class Limits:
    """The time and the memory that the check of a model may take.

    Attributes:
        seconds: From the start of its process.
        gibibytes: Address space, in GiB.
    """

    seconds: float = 600.0
    gibibytes: float = 16.0


DEFAULT = Limits()


def run_models(
    models: Sequence[ZooModel],
    modes: Sequence[str],
    on_rows: Callable[[ZooModel, list[ZooRow]], None],
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
        limits: Limits of each.
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


def _listed(status: str, rows: Sequence[ZooRow]) -> list[str]:
    """List models of a status, those of one reason in one line."""
    if not rows:
        return []
    models: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        models.setdefault((row.reason, row.model), []).append(row.mode)
    grouped: dict[tuple[str, str], list[str]] = {}
    for (reason, model), modes in models.items():
        key = reason, ', '.join(modes)
        grouped.setdefault(key, []).append(model)
    lines = [
        '',
        f'### {status}',
        '',
        '| reason | mode | models |',
        '|---|---|---|',
    ]
    for (reason, modes), names in grouped.items():
        listed = ', '.join(f'`{name}`' for name in names)
        reason = reason.replace('|', '\\|')
        lines.append(f'| {reason} | {modes} | {len(names)}: {listed} |')
    return lines


def _check(entry: ZooModel, rows: Iterable[ZooRow]) -> Iterable[ZooRow]:
    if entry.problem:
        raise NotDenseError(entry.problem)
    config = Config.fromfile(entry.path)
    model_config = inner_model(config.model)
    model = _build(entry.host, config, model_config)
    try:
        convert(model, open_gates())
    except ValueError as error:
        reason = one_line(error).split('; nothing was changed')[0]
        for row in rows:
            yield replace(row, status='refused', reason=reason)
        return
    revert(model)
    probe, frames, expected = _run_densely(
        model, candidate_frames(entry.host, config, model_config)
    )
    size = 'x'.join(map(str, frames.images[0].shape))
    for row in rows:
        yield _compare(replace(row, size=size), probe, frames, expected)


def _build(
    host: str, config: Config, model_config: dict[str, Any]
) -> nn.Module:
    """Build a model with random weights, in eval mode."""
    try:
        utils = import_module(f'{host}.utils')
        utils.register_all_modules(init_default_scope=False)
        init_default_scope(host)
        model_config = model_config.copy()
        if 'data_preprocessor' in config:
            known = config.data_preprocessor
            model_config.setdefault('data_preprocessor', known)
        model = MODELS.build(without_weights(model_config))
    except Exception as error:  # whatever a constructor does
        raise NotDenseError(describe(error)) from error
    model = revert_sync_batchnorm(model).eval()
    draw_weights(model)
    return model


def _run_densely(
    model: nn.Module, candidates: Iterable[Frames]
) -> tuple[Probe, Frames, Outputs]:
    """Find frames and a call that the model takes, and run it.

    Raises:
        NotDenseError: It takes none of them.
    """
    reason = ''
    sizes = list(candidates)
    for only_features in (False, True):
        probe = Probe(model, only_features).eval()
        for frames in sizes:
            try:
                # Statistics are there before the first output depends on
                # them.
                with taking_statistics(probe):
                    outputs = run(probe, frames)
            except Exception as error:  # whatever a forward does
                reason = reason or describe(error)
                continue
            _check_finite(outputs)
            return probe, frames, outputs
    raise NotDenseError(reason)


def _check_finite(outputs: Outputs) -> None:
    for frame in outputs:
        for name, tensors in frame.items():
            if not all(tensor.isfinite().all() for tensor in tensors):
                raise NotDenseError(f'{name or "the model"} is not finite')


def _compare(
    row: ZooRow, probe: Probe, frames: Frames, expected: Outputs
) -> ZooRow:
    """Run a model in a stream and tell how far it is from what it was."""
    report = convert(probe, open_gates())
    row = replace(row, layers=len(report.converted))
    try:
        MODES[row.mode](probe)
        state = StreamState()
        with stream(probe, state):
            actual = run(probe, frames)
        row = replace(row, planned=_num_planned(state))
        errors = map(largest_error, actual, expected)
        error, part = max(errors, key=lambda found: found[0])
    except Exception as problem:  # that is what is looked for
        return replace(row, status='fails', reason=describe(problem))
    finally:
        if row.mode != 'fast':
            revert(probe)
    row = replace(row, error=error)
    if error <= TOLERANCE:
        return replace(row, status='equal')
    noise = _own_noise(probe, frames)
    reason = f'{error:.1e} at {part or "its output"}'
    if noise <= TOLERANCE:
        return replace(row, status='differs', reason=reason)
    reason += (
        f'; without a stream, by last bits and the order of sums: {noise:.1e}'
    )
    return replace(row, status='undetermined', reason=reason)


def _own_noise(probe: Probe, frames: Frames) -> float:
    """Tell how far float32 determines the dense model's outputs.

    A model that chooses among nearly equal scores, or whose random weights
    make it chaotic, differs from itself as soon as the last bits of its
    pictures do, or its convolutions add up in another order.
    """
    expected = run(probe, frames)
    moved = [
        torch.nextafter(x, torch.full_like(x, 1e9)) for x in frames.images
    ]
    others = [run(probe, frames._replace(images=moved))]
    with torch.backends.mkldnn.flags(enabled=False):
        others.append(run(probe, frames))
    return max(
        largest_error(*pair)[0]
        for outputs in others
        for pair in zip(outputs, expected, strict=True)
    )


def _num_planned(state: StreamState) -> int:
    layers: set[SkipConvMixin] = set()
    for plan in state.plans.values():
        layers.update(conv.layer for conv in getattr(plan, 'convs', ()))
    return len(layers)


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

    def finish(self) -> list[ZooRow]:
        """Return its rows, or those that say why there are none."""
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
            ZooRow(
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

"""Check models: open gates change nothing, and how much is converted."""

import resource
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import chdir
from dataclasses import dataclass, field, replace
from itertools import product
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from mmskip.core import (
    ConversionReport,
    Converted,
    MacLedger,
    convert,
    count_macs,
    revert,
)
from mmskip.core.counting import ProductMacs
from mmskip.plan import accelerate, propagate_changes
from mmskip.skip_conv import SkipConversion, SkipConvMixin, StreamState, stream
from mmskip.skip_conv.attention import (
    SkipAttentionMixin,
    SkipMultiheadAttention,
)

from .errors import one_line
from .zoo_models import (
    Frames,
    NotDenseError,
    Probe,
    ZooModel,
    build_model,
    candidate_frames,
    describe,
    draw_weights,
    full_frames,
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
    'converted',
    'partly converted',
    'refused',
    'does not run densely',
)
#: The mode in which the share of a model that is converted is measured.
COVERAGE = 'coverage'
#: The work that converted layers do.
CONVERTED = 'converted'
#: Share of the MACs of backbone and neck from which a model is converted.
ENOUGH = 0.8
#: Share of them from which work that stays dense is a reason to be below.
NOTABLE = 0.02
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
        mode: A key of :data:`MODES`, or :data:`COVERAGE`.
        status: One of :data:`STATUSES`; ``undetermined`` if the dense model
            differs from itself as soon as the last bits of its pictures do;
            ``converted`` from a ``share`` of :data:`ENOUGH`.
        reason: Why it is not equal, or the largest error; of one that is
            partly converted, what stays dense.
        error: Largest difference, as a share of the largest value of its
            tensor; None where nothing could be compared.
        size: Size of a frame, ``1x3x128x128``.
        layers: Number of converted layers.
        planned: How many of them run in a plan.
        seconds: For the model, in all modes.
        configs: All configs of the model.
        share: Share of the MACs of backbone and neck that converted layers
            do, products outside of layers included.
        whole: Their share of the MACs of the whole model, if it ran.
        dense: Share of backbone and neck of all that stays dense, by what it
            is, the largest first.
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
    share: float | None = None
    whole: float | None = None
    dense: dict[str, float] = field(default_factory=dict)


def check_model(entry: ZooModel, modes: Sequence[str]) -> list[ZooRow]:
    """Build a model with random weights and run it on three frames.

    Args:
        entry: Which model.
        modes: Keys of :data:`MODES`.

    Returns:
        A row for each mode.
    """
    return _rows(_check, entry, modes)


def cover_model(
    entry: ZooModel, modes: Sequence[str] = (COVERAGE,)
) -> list[ZooRow]:
    """Convert a model, and tell how much of its work is converted.

    Args:
        entry: Which model.
        modes: The names that its rows get.

    Returns:
        A row for each mode.
    """
    return _rows(_cover, entry, modes)


def open_gates() -> SkipConversion:
    """Return a conversion whose layers compute all that changed at all."""
    gate = dict(type='OutputNormGate', threshold=0.0)
    return SkipConversion(gate, 'accumulated', linear=True)


@torch.no_grad()
def run(probe: Probe, frames: Frames) -> Outputs:
    """Return the raw outputs of all frames."""
    return [probe.record(image, frames.samples) for image in frames.images]


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


class _RefusedError(Exception):
    """Nothing of the model can be converted; the text says why."""


def _rows(
    check: Callable[[ZooModel, list[ZooRow]], Iterable[ZooRow]],
    entry: ZooModel,
    modes: Sequence[str],
) -> list[ZooRow]:
    """Fill a row for each mode, and say where one cannot be filled."""
    begin = time.monotonic()
    torch.manual_seed(0)
    blank = ZooRow(entry.host, entry.name, '', '', configs=entry.configs)
    rows = [replace(blank, mode=mode) for mode in modes]
    ends = {
        NotDenseError: 'does not run densely',
        _RefusedError: 'refused',
    }
    try:
        rows = list(check(entry, rows))
    except tuple(ends) as error:
        end = dict(status=ends[type(error)], reason=str(error))
        rows = [replace(row, **end) for row in rows]
    seconds = round(time.monotonic() - begin, 1)
    return [replace(row, seconds=seconds) for row in rows]


def _check(entry: ZooModel, rows: list[ZooRow]) -> Iterator[ZooRow]:
    model, _, *how = _make(entry, open_gates())
    revert(model)
    draw_weights(model)
    candidates = candidate_frames(entry.host, *how)
    probe, frames, expected = _run_densely(model, candidates)
    for row in rows:
        row = replace(row, size=_size(frames))
        yield _compare(row, probe, frames, expected)


def _cover(entry: ZooModel, rows: list[ZooRow]) -> Iterator[ZooRow]:
    """Count at the size that a config tells, without computing anything.

    Where an operator of the host does not go without: at the smallest size.
    """
    for find_frames in (full_frames, candidate_frames):
        model, report, *how = _make(entry, open_gates())
        sizes = list(find_frames(entry.host, *how))
        model.to(sizes[0].images[0].device)
        reason = ''
        for frames, only_features in product(sizes, (False, True)):
            probe = Probe(model, only_features).eval()
            try:
                values = _coverage(probe, frames, report)
            except Exception as error:  # whatever a forward does
                reason = reason or describe(error)
                continue
            values['size'] = _size(frames)
            yield from (replace(row, **values) for row in rows)
            return
    raise NotDenseError(reason)


def _size(frames: Frames) -> str:
    return 'x'.join(map(str, frames.images[0].shape))


def _make(
    entry: ZooModel, conversion: SkipConversion
) -> tuple[nn.Module, ConversionReport, Config, dict[str, Any]]:
    """Build a model and convert it.

    Returns:
        The model, the report, its config file, and the config of the model
        itself.

    Raises:
        NotDenseError: It cannot be built.
        _RefusedError: Nothing of it can be converted.
    """
    if entry.problem:
        raise NotDenseError(entry.problem)
    config = Config.fromfile(entry.path)
    model_config = inner_model(config.model)
    model = build_model(entry.host, config, model_config)
    try:
        report = convert(model, conversion)
    except ValueError as error:
        whys = {
            conversion.refusal(name, module): None
            for name, module in model.named_modules()
            if conversion.concerns(module)
        }
        reason = one_line(error).split('; nothing was changed')[0]
        told = '; '.join(why for why in whys if why)
        raise _RefusedError(f'{reason}: {told}'.removesuffix(': ')) from error
    return model, report, config, model_config


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


def _coverage(
    probe: Probe, frames: Frames, report: ConversionReport
) -> dict[str, Any]:
    """Run a converted model on a frame, and tell who does the MACs.

    Returns:
        Values of a row.
    """
    with (
        torch.no_grad(),
        count_macs(probe) as ledger,
        ProductMacs(probe, ledger) as products,
    ):
        probe(frames.images[0], frames.samples)
    works = list(_tell_macs(probe, ledger, products, report))
    names = {name for name, _ in probe.named_children()}
    main = {n for n in names if 'backbone' in n or 'neck' in n} or names
    parts = _shares(work for work in works if work[0] in main)
    share = parts.pop(CONVERTED, 0.0)
    reasons = (what for what, part in parts.items() if part >= NOTABLE)
    is_enough = share >= ENOUGH
    return dict(
        status='converted' if is_enough else 'partly converted',
        reason='' if is_enough else '; '.join(reasons),
        layers=len(report.converted),
        share=share,
        whole=None
        if probe.only_features
        else _shares(works).get(CONVERTED, 0.0),
        dense=parts,
    )


def _tell_macs(
    probe: Probe,
    ledger: MacLedger,
    products: ProductMacs,
    report: ConversionReport,
) -> Iterator[tuple[str, str, int]]:
    """Tell who does MACs.

    Yields:
        The child of the probe, :data:`CONVERTED` or who stays dense and why,
        and MACs.
    """
    modules = dict(probe.named_modules())
    for name, count in ledger.by_module().items():
        module = modules[name]
        why = report.left_dense.get(name, 'of a kind that is not converted')
        what = f'{type(module).__name__}: {why}'
        is_converted = isinstance(module, Converted)
        what = CONVERTED if is_converted else what
        yield name.partition('.')[0], what, count.dense
    for (name, kind), macs in products.macs().items():
        module = modules[name]
        what = f'{type(module).__name__.removeprefix("Skip")}: {kind}'
        kinds = SkipAttentionMixin, SkipMultiheadAttention
        is_converted = isinstance(module, kinds)
        what = CONVERTED if is_converted else what
        yield name.partition('.')[0], what, macs


def _shares(works: Iterable[tuple[str, str, int]]) -> dict[str, float]:
    """Add MACs up by who does them, the most first; as shares of all."""
    macs: Counter[str] = Counter()
    for _, what, number in works:
        macs[what] += number
    return {what: n / max(macs.total(), 1) for what, n in macs.most_common()}


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

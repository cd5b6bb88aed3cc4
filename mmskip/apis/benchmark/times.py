"""Time pairs of models, in turns."""

import itertools
import statistics
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from time import perf_counter, process_time

from torch import Tensor, nn

from mmskip.runtime import count_macs, stream

from .forced_masks import converted
from .pairs import Pair

#: Frames that are not timed: the reference frame is the first of them.
WARM_UP = 3


def measure(
    pairs: Sequence[Pair],
    frames: Sequence[Tensor],
    pattern: str,
    share: float | None,
    counted: int,
) -> list[dict]:
    """One row for each pair: all models on the same frames, in turns.

    Args:
        pairs: Of models; their gates are forced already, or real ones.
        frames: Inputs (1, 3, H, W); the first :data:`WARM_UP` are not timed.
        pattern: Name of the row.
        share: Of the outputs that are forced to fire; None takes that of the
            MACs that are executed.
        counted: Frames after the first one whose MACs are counted.
    """
    times, sizes = defaultdict(list), {}
    reduction = _mac_reduction(pairs[0].skip, frames[: counted + 1])
    with ExitStack() as stack:
        states = {p.name: stack.enter_context(stream(p.skip)) for p in pairs}
        for frame in frames:
            for name, *models in (pair[:3] for pair in pairs):
                for kind, model in zip(('dense', 'skip'), models, strict=True):
                    start = perf_counter(), process_time()
                    model(frame)
                    times[name, kind].append(perf_counter() - start[0])
                    times[name, kind, 'cpu'].append(process_time() - start[1])
        sizes = {name: state.nbytes for name, state in states.items()}
    ms = {k: 1e3 * statistics.median(v[WARM_UP:]) for k, v in times.items()}
    if share is None:
        share = 1 / reduction if reduction else 0.0
    return [
        _row(pattern, share, reduction, pair.name, ms, sizes) for pair in pairs
    ]


def _row(
    pattern: str,
    share: float,
    reduction: float | None,
    name: str,
    ms: dict[tuple, float],
    sizes: dict[str, int],
) -> dict:
    speed_up = ms[name, 'dense'] / ms[name, 'skip']
    return dict(
        pair=name,
        pattern=pattern,
        active=share,
        mac_reduction=reduction,
        speed_up=speed_up,
        efficiency=speed_up / reduction if reduction else None,
        dense_ms=ms[name, 'dense'],
        skip_ms=ms[name, 'skip'],
        share_of_dense=1 / speed_up,
        dense_cpu_ms=ms[name, 'dense', 'cpu'],
        skip_cpu_ms=ms[name, 'skip', 'cpu'],
        cpu_speed_up=ms[name, 'dense', 'cpu'] / ms[name, 'skip', 'cpu'],
        state_bytes=sizes[name],
    )


def _mac_reduction(skip: nn.Module, frames: Sequence[Tensor]) -> float | None:
    """How many times fewer MACs later frames take; None if they take none."""
    with stream(skip):
        skip(frames[0])
        with count_macs(skip) as macs:
            for frame in frames[1:]:
                skip(frame)
    count = macs.total()
    return count.dense / count.executed if count.executed else None


def best_of_pairs(rows: Sequence[dict]) -> list[dict]:
    """The best skip against the best dense, for each input."""
    best = []
    for (pattern, share), group in itertools.groupby(
        rows, key=lambda row: (row['pattern'], row['active'])
    ):
        alike = list(group)
        dense = min(row['dense_ms'] for row in alike)
        skip = min(row['skip_ms'] for row in alike)
        best.append(
            dict(
                pattern=pattern,
                active=share,
                mac_reduction=alike[0]['mac_reduction'],
                speed_up=dense / skip,
                dense_ms=dense,
                skip_ms=skip,
            )
        )
    return best


def break_even(
    rows: Sequence[dict], pattern: str, pair: str = 'eager'
) -> float | None:
    """The share of active outputs at which both take as long.

    By linear interpolation; None if skipping wins, or loses, everywhere.
    """
    mine = [r for r in rows if (r['pattern'], r['pair']) == (pattern, pair)]
    for low, high in itertools.pairwise(mine):
        a, b = low['share_of_dense'] - 1, high['share_of_dense'] - 1
        if a < 0 <= b:
            width = high['active'] - low['active']
            return low['active'] - a / (b - a) * width
    return None


def time_layers(
    model: nn.Module, frames: Sequence[Tensor]
) -> dict[str, float]:
    """Where the time of a skip frame goes, in ms; the rest is ''.

    Args:
        model: Converted, not compiled.
        frames: The first :data:`WARM_UP` are not timed.
    """
    times: dict[str, float] = defaultdict(float)
    started = {}
    names = {m: n for n, m in model.named_modules()}

    def begin(layer: nn.Module, _: tuple) -> None:
        started[layer] = perf_counter()

    def end(layer: nn.Module, *_: object) -> None:
        times[names[layer]] += perf_counter() - started[layer]

    with stream(model) as state, ExitStack() as stack:
        for frame in frames[:WARM_UP]:
            model(frame)
        for plan in state.plans.values():
            plan.clock = times
        for layer in converted(model):
            stack.enter_context(layer.register_forward_pre_hook(begin))
            stack.enter_context(layer.register_forward_hook(end))
        start = perf_counter()
        for frame in frames[WARM_UP:]:
            model(frame)
        whole = perf_counter() - start
    times[''] += whole - sum(times.values())
    number = len(frames) - WARM_UP
    return {name: 1e3 * t / number for name, t in times.items()}

"""Thresholds of gates: the error they make, and the search for the best.

The search: Skip-Convolutions for Efficient Video Processing (CVPR 2021),
section 3.2.1, shares one threshold between all layers and leaves those per
layer open. The algorithm is ours, an exchange at equal marginal rates:

1. The best single threshold that meets the budget is the start.
2. In each round the threshold of every group of layers is multiplied and
   divided by the round's step, one group at a time, and error and MACs of
   the whole model are measured: a threshold also decides what the layers
   behind it get, so that no layer can be tuned by itself.
3. Of these moves, all those are made together that pay at one rate of
   exchange between error and MACs (a Lagrangian), for several rates.
4. After every such exchange one joint factor on all thresholds is fitted, so
   that the budget is met. The best result is kept.

Errors of layers are taken to add up in squares, as independent errors do.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmskip.core import count_macs
from mmskip.reading import InputError
from mmskip.skip_conv import NormGate, SkipConvMixin, stream

Thresholds = dict[str, float]
STEPS = (4.0, 2.0, 2.0)
# Relative gain below which a move is noise.
LEAST_GAIN = 1e-4
# Of exchange between the objective and the budget, both relative.
RATES = tuple(10 ** (power / 4) for power in range(-8, 9))
# Exchanges that are measured in a round, the nearest to the budget first.
MOST_EXCHANGES = 3


class Cost(NamedTuple):
    """The error and the MACs that thresholds lead to.

    Attributes:
        error: Error of the outputs, relative to the dense model's.
        share: MACs that are spent, as a share of the dense model's.
    """

    error: float
    share: float


@dataclass(frozen=True)
class Budget:
    """A bound on the error or on the MACs; the other one is minimised.

    Args:
        max_error: Largest :attr:`Cost.error`.
        max_share: Largest :attr:`Cost.share`.

    Raises:
        ValueError: Not exactly one is given, or it is not positive.
    """

    max_error: float | None = None
    max_share: float | None = None

    def __post_init__(self) -> None:
        given = [x for x in (self.max_error, self.max_share) if x is not None]
        if len(given) != 1 or given[0] <= 0:
            raise ValueError(
                'expected one positive bound, max_error or max_share, got '
                f'{self}'
            )

    @property
    def bounds_error(self) -> bool:
        """True if it is the error that is bounded."""
        return self.max_error is not None

    def used(self, cost: Cost) -> float:
        """Return how much of the budget is used; up to 1 it is met."""
        if self.bounds_error:
            return (cost.error / self.max_error) ** 2
        return cost.share / self.max_share

    def objective(self, cost: Cost) -> float:
        """Return the figure that is minimised within the budget."""
        return cost.share if self.bounds_error else cost.error**2


class Choice(NamedTuple):
    """Thresholds by layer, and what they lead to."""

    thresholds: Thresholds
    cost: Cost


class _Move(NamedTuple):
    """A group's thresholds times a factor: changes of objective and use."""

    group: int
    factor: float
    gain: float
    use: float


Measure = Callable[[Mapping[str, float]], Cost]


def scaled(thresholds: Mapping[str, float], factor: float) -> Thresholds:
    """Return all thresholds times a factor."""
    return {name: value * factor for name, value in thresholds.items()}


def share_at(curve: Sequence[Cost], error: float) -> float | None:
    """Return the share of MACs at which a curve has an error.

    Between two points, linear in the logarithm of the error.

    Args:
        curve: In any order.
        error: Positive.

    Returns:
        None if the curve does not reach that error from both sides.
    """
    points = sorted(cost for cost in curve if cost.error > 0)
    for below, above in itertools.pairwise(points):
        if below.error <= error <= above.error:
            width = math.log(above.error / below.error)
            part = math.log(error / below.error) / width if width else 0.0
            return below.share + part * (above.share - below.share)
    return None


def fit_scale(
    measure: Measure,
    thresholds: Mapping[str, float],
    budget: Budget,
    span: float = 4.0,
    runs: int = 6,
) -> Choice | None:
    """Find the joint factor on all thresholds that just meets a budget.

    Args:
        measure: Measures thresholds.
        thresholds: By layer.
        budget: What is to be met.
        span: The factor lies between ``1 / span`` and ``span``.
        runs: Measurements, of a bisection on the factor's logarithm.

    Returns:
        The best that meets the budget; None if nothing does.
    """
    low, high = -math.log(span), math.log(span)
    best = None
    for _ in range(runs):
        middle = (low + high) / 2
        candidate = scaled(thresholds, math.exp(middle))
        cost = measure(candidate)
        fits = budget.used(cost) <= 1
        if fits and (best is None or _better(cost, best.cost, budget)):
            best = Choice(candidate, cost)
        # An error allows more, MACs allow less, while the budget is met.
        if fits == budget.bounds_error:
            low = middle
        else:
            high = middle
    return best


def search_thresholds(
    measure: Measure,
    groups: Sequence[Sequence[str]],
    start: float,
    budget: Budget,
    steps: Sequence[float] = STEPS,
) -> tuple[Choice, Choice]:
    """Choose a threshold per layer, as the module says.

    Args:
        measure: Measures thresholds.
        groups: Layers whose thresholds move together.
        start: A single threshold to look around.
        budget: What is to be met.
        steps: Factor by which a round moves thresholds, for each round.

    Returns:
        The best single threshold, and the thresholds per layer.

    Raises:
        InputError: No single threshold meets the budget.
    """
    same = {name: start for group in groups for name in group}
    single = fit_scale(measure, same, budget, span=256.0, runs=11)
    if single is None:
        raise InputError(
            f'expected a budget that some single threshold meets, got '
            f'{budget}; around the threshold {start:g} of the config none '
            'does: allow a larger error or a smaller reduction'
        )
    best = single
    for step in steps:
        before = best
        moves = _try_moves(measure, groups, before, budget, step)
        for exchange in _exchanges(moves, before.cost, budget):
            moved = dict(before.thresholds)
            for move in exchange:
                for name in groups[move.group]:
                    moved[name] *= move.factor
            found = fit_scale(measure, moved, budget)
            if found is not None and _better(found.cost, best.cost, budget):
                best = found
    return single, best


def norm_gates(model: nn.Module) -> dict[str, NormGate]:
    """Return the norm gates of a converted model, by layer name.

    Raises:
        InputError: It has none.
    """
    gates = {
        name: module.gate
        for name, module in model.named_modules()
        if isinstance(module, SkipConvMixin)
        and isinstance(module.gate, NormGate)
    }
    if not gates:
        raise InputError(
            f'expected a model with norm gates, got {type(model).__name__} '
            'without any; convert it with mmskip.SkipConversion and an '
            'InputNormGate or OutputNormGate (learned gates have no '
            'threshold)'
        )
    return gates


def tensors_of(output: Any) -> Iterator[Tensor]:
    """Yield the floating point tensors of nested outputs."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from tensors_of(value)
    elif isinstance(output, (list, tuple)):
        for value in output:
            yield from tensors_of(value)


class OutputError:
    """Measures what thresholds do to a model's outputs and MACs.

    The error is the root of the mean, over the tensors of an output, of
    ``sum (z - z_dense)^2 / sum z_dense^2``, both sums over all frames. MACs
    are those of the whole model, reference frames and gates included.

    Args:
        model: With norm gates, in eval mode.
        clips: Frames of each clip, as ``forward`` takes them.
        forward: Runs the model on a frame.
        num_frames: Frames that each of these is, e.g. those of the clip that
            a recognizer takes.

    Attributes:
        runs: Measurements so far.

    Raises:
        InputError: No norm gate, or no clip of two frames or more.
    """

    def __init__(
        self,
        model: nn.Module,
        clips: Sequence[Sequence[Any]],
        forward: Callable[[Any], Any],
        num_frames: int = 1,
    ) -> None:
        if not clips or num_frames * min(map(len, clips)) < 2:
            raise InputError(
                'expected clips of 2 frames or more, got '
                f'{[len(clip) for clip in clips]}'
            )
        self.runs = 0
        self._model = model
        self._gates = norm_gates(model)
        self._clips = clips
        self._forward = forward
        self._num_frames = num_frames
        with torch.no_grad():
            self._dense = [
                [list(tensors_of(forward(frame))) for frame in clip]
                for clip in clips
            ]
        self._power = _sum(
            [_squares(z) for z in frame]
            for frames in self._dense
            for frame in frames
        )

    def __call__(self, thresholds: Mapping[str, float]) -> Cost:
        """Set a threshold per layer, and measure.

        Args:
            thresholds: By layer; all layers of :func:`norm_gates`.
        """
        self.runs += 1
        for name, gate in self._gates.items():
            gate.threshold = thresholds[name]
        rows = []
        with torch.no_grad(), count_macs(self._model) as macs:
            for clip, dense in zip(self._clips, self._dense, strict=True):
                with stream(self._model, num_frames=self._num_frames):
                    for frame, outputs in zip(clip, dense, strict=True):
                        found = tensors_of(self._forward(frame))
                        pairs = zip(found, outputs, strict=True)
                        rows.append([_squares(y - z) for y, z in pairs])
        total = macs.total()
        shares = [
            wrong / max(power, 1e-12)
            for wrong, power in zip(_sum(rows), self._power, strict=True)
        ]
        error = (sum(shares) / len(shares)) ** 0.5
        return Cost(error, total.spent / total.dense)


def _better(cost: Cost, other: Cost, budget: Budget) -> bool:
    return budget.objective(cost) < budget.objective(other)


def _try_moves(
    measure: Measure,
    groups: Sequence[Sequence[str]],
    best: Choice,
    budget: Budget,
    step: float,
) -> list[_Move]:
    """Measure every group's threshold one step up and one down."""
    objective = max(budget.objective(best.cost), 1e-12)
    used = budget.used(best.cost)
    moves = []
    for index, names in enumerate(groups):
        for factor in (step, 1 / step):
            moved = dict(best.thresholds)
            for name in names:
                moved[name] *= factor
            cost = measure(moved)
            gain = budget.objective(cost) / objective - 1
            moves.append(_Move(index, factor, gain, budget.used(cost) - used))
    return moves


def _exchanges(
    moves: Sequence[_Move], cost: Cost, budget: Budget
) -> list[list[_Move]]:
    """Return moves that pay together, nearest to the budget first."""
    found: dict[tuple, tuple[float, list[_Move]]] = {}
    room = 1 - budget.used(cost)
    for rate in RATES:
        chosen: dict[int, _Move] = {}
        for move in moves:
            worth = move.gain + rate * move.use
            other = chosen.get(move.group)
            if worth > -LEAST_GAIN or (
                other is not None and other.gain + rate * other.use <= worth
            ):
                continue
            chosen[move.group] = move
        exchange = list(chosen.values())
        if exchange:
            missed = abs(sum(move.use for move in exchange) - room)
            key = tuple((move.group, move.factor) for move in exchange)
            found[key] = missed, exchange
    ordered = sorted(found.values(), key=lambda pair: pair[0])
    return [exchange for _, exchange in ordered[:MOST_EXCHANGES]]


def _squares(tensor: Tensor) -> float:
    return float(tensor.double().square().sum())


def _sum(rows: Any) -> list[float]:
    return [sum(column) for column in zip(*rows, strict=True)]

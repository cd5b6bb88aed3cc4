"""Routing, the options that gates of dynamic convolutions leave open.

The tables of VA-RED^2 (B. Pan, M.S. thesis, MIT, 2023) give the average, the
largest and the smallest cost of a clip, where the ledger of
:func:`mmskip.count_macs` has sums only. :func:`record_routing` therefore keeps
the routing and the MACs of each sample; :func:`force_routing` sets the routing
of all layers by hand, to measure what an option costs.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmskip.core import CountedWhole
from mmskip.core.counting import (
    TransientHook,
    around_forward,
    list_counted,
    plain_macs,
)
from mmskip.reading import InputError

from .gate import Usage
from .layer import DynamicConvMixin

# MACs of one sample: those spent, and those of computing everything.
Macs = tuple[int, int]


class LayerRouting(NamedTuple):
    """Holds the routing of one dynamic layer for N samples, in order.

    A sample is one row of the layer's batch: a clip for a 3-D convolution,
    a frame for a 2-D one.

    Attributes:
        time: (N,) int64, index i of the largest temporal option that ran,
            R = 2**i; 0 where the axis is not dynamic.
        channels: (N,) int64, the same for channels, r = 1 / 2**i.
        dense: MACs of one sample in the plain layer (of the last call, if
            the size of the input changed).
        executed: (N,) int64, MACs of each sample, gate and cheap maps
            included.
    """

    time: Tensor
    channels: Tensor
    dense: int
    executed: Tensor


class RoutingRecord:
    """Collects the routing and the MACs of a model, sample by sample.

    It can be read inside the block of :func:`record_routing` and after it.

    Args:
        names: Names of the layers that are counted.
    """

    def __init__(self, names: dict[nn.Module, str]) -> None:
        self._names = names
        self._rows: dict[str, list[tuple[int, int, int]]] = {}
        self._dense: dict[str, int] = {}
        self._forward: dict[nn.Module, list[list[Macs]]] | None = None
        self._scores = 0
        self._samples: list[Macs] = []

    def by_layer(self) -> dict[str, LayerRouting]:
        """Get the routing of each dynamic layer that ran, by its name."""
        routing = {}
        for name, rows in self._rows.items():
            table = torch.tensor(rows, dtype=torch.int64)
            time, channels, executed = table.unbind(1)
            routing[name] = LayerRouting(
                time, channels, self._dense[name], executed
            )
        return routing

    def sample_macs(self) -> Tensor:
        """Get the MACs of the whole model for each sample, in order.

        A sample is a row of the scores of ``cls_head``: a view (clip and
        crop). In a model without that module it is a row of its smallest
        batch. Layers that run on each frame on its own (TSN) are summed over
        its frames. Plain layers, gates and cheap maps are included.

        Returns:
            (N,) int64.
        """
        return self._totals(0)

    def sample_dense_macs(self) -> Tensor:
        """Get the same for the model that computes everything, (N,) int64."""
        return self._totals(1)

    def record(
        self,
        layer: DynamicConvMixin,
        usages: Sequence[Usage],
        dense: int,
        costs: Sequence[tuple[int, int]],
    ) -> None:
        """Add one call of a dynamic layer.

        Args:
            layer: Layer that ran.
            usages: Options that each sample used.
            dense: MACs of one sample in the plain layer.
            costs: MACs and overhead of each sample.
        """
        name = self._names[layer]
        spent = [sum(cost) for cost in costs]
        self._dense[name] = dense
        self._rows.setdefault(name, []).extend(
            (usage.time[0], usage.channels[0], macs)
            for usage, macs in zip(usages, spent, strict=True)
        )
        self._add(layer, [(macs, dense) for macs in spent])

    def record_plain(
        self, layer: nn.Module, inputs: tuple, output: Any
    ) -> None:
        """Add one call of a stock layer, the same for each sample."""
        if output is None:  # it has raised
            return
        macs = plain_macs(layer, inputs, output)
        if macs is not None and len(output):
            each = macs // len(output)
            self._add(layer, [(each, each)] * len(output))

    def record_whole(
        self, module: CountedWhole, inputs: tuple, spent: int, dense: int
    ) -> None:
        """Add one call of a module that reports its own MACs."""
        if spent or dense:
            samples = len(inputs[0])
            each = spent // samples, dense // samples
            self._add(module, [each] * samples)

    def begin(self) -> None:
        """Start a forward of the whole model."""
        self._forward, self._scores = {}, 0

    def count_scores(
        self, head: nn.Module, inputs: tuple, output: Any
    ) -> None:
        """Count the samples that a classifier gives scores for."""
        scores = output[0] if isinstance(output, (tuple, list)) else output
        if isinstance(scores, Tensor):
            self._scores += len(scores)

    def end(self, output: Any) -> None:
        """End a forward of the whole model: add up the MACs of its samples.

        Raises:
            InputError: A layer's batch is no multiple of the samples.
        """
        calls, self._forward = self._forward, None
        if not calls or output is None:  # it has raised
            return
        batches = {layer: sum(map(len, rows)) for layer, rows in calls.items()}
        samples = self._scores or min(batches.values())
        for layer, rows in batches.items():
            if rows % samples:
                raise InputError(
                    f'expected {self._names[layer]} to run on whole frames '
                    f'of {samples} samples, got a batch of {rows}; record '
                    'models whose samples differ in their work one by one: '
                    'batch_size=1'
                )
        layers = [_per_sample(rows, samples) for rows in calls.values()]
        self._samples += [_sum(macs) for macs in zip(*layers, strict=True)]

    def _totals(self, index: int) -> Tensor:
        macs = [sample[index] for sample in self._samples]
        return torch.tensor(macs, dtype=torch.int64)

    def _add(self, layer: nn.Module, macs: list[Macs]) -> None:
        # A layer called on its own is no forward of the model.
        if self._forward is not None:
            self._forward.setdefault(layer, []).append(macs)


@contextmanager
def record_routing(model: nn.Module) -> Iterator[RoutingRecord]:
    """Record the routing of dynamic layers in eval mode, sample by sample.

    It is independent of ``count_macs``: one may be inside the other. In
    training everything is computed: dynamic layers in training mode are left
    out.

    Args:
        model: Any model; a plain one has no routing, but its samples cost
            MACs, too.

    Yields:
        The record; ``by_layer()`` and ``sample_macs()`` may be called inside
        the block and after it. It grows with every sample.

    Raises:
        RuntimeError: Its routing is being recorded already.
    """
    names = list_counted(model)
    dynamic = [m for m in names if isinstance(m, DynamicConvMixin)]
    if any(module._routing is not None for module in dynamic):
        raise RuntimeError(
            'the routing of this model is being recorded already; leave '
            'that block first'
        )
    record = RoutingRecord(names)
    # A root that is itself a layer must begin before it is counted.
    begin, end = around_forward(
        model,
        lambda *_: record.begin(),
        lambda _, inputs, output: record.end(output),
    )
    handles = [begin, end]
    head = getattr(model, 'cls_head', None)
    if isinstance(head, nn.Module):
        count = TransientHook(record.count_scores)
        handles.append(head.register_forward_hook(count))
    for module in names:
        if isinstance(module, DynamicConvMixin):
            continue
        if isinstance(module, CountedWhole):
            relay = _LedgerRelay(record)
            handles += around_forward(module, relay.begin, relay.end)
        else:
            handles += around_forward(
                module, lambda *_: None, record.record_plain
            )
    for module in dynamic:
        module._routing = record
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()
        for module in dynamic:
            del module._routing


@contextmanager
def force_routing(
    model: nn.Module, time: int = 0, channels: int = 0
) -> Iterator[None]:
    """Make every dynamic layer use one option alone, with the weight 1.

    The gates still run, so the time that a model takes is the real one.
    With 0 on both axes the model equals the plain one.

    Args:
        model: A model with dynamic convolutions.
        time: Index of the temporal option, 0 for all frames; layers with
            fewer options use their smallest.
        channels: The same for channels.

    Raises:
        ValueError: An index is negative, or the model has no dynamic layer.
    """
    if min(time, channels) < 0:
        raise ValueError(
            f'expected indices of options >= 0, got {time} and {channels}'
        )
    layers = [m for m in model.modules() if isinstance(m, DynamicConvMixin)]
    if not layers:
        raise ValueError(
            'expected a model with dynamic convolutions, got '
            f'{type(model).__name__} without any'
        )
    before = [layer.gate.forced for layer in layers]
    for layer in layers:
        smallest = [options - 1 for options in layer.search_space]
        layer.gate.forced = tuple(map(min, (time, channels), smallest))
    try:
        yield
    finally:
        for layer, forced in zip(layers, before, strict=True):
            layer.gate.forced = forced


class _LedgerRelay:
    """Stands in for the ledger of a module that reports its own MACs.

    Args:
        record: Record that gets these MACs, beside the ledger.
    """

    def __init__(self, record: RoutingRecord) -> None:
        self._record = record
        self._ledger: Any = None
        self._macs = (0, 0)

    def begin(self, module: CountedWhole, inputs: tuple) -> None:
        """Start a call of the module."""
        self._ledger, module._ledger = module._ledger, self
        self._macs = (0, 0)

    def end(self, module: CountedWhole, inputs: tuple, output: Any) -> None:
        """End a call of the module."""
        module._ledger, self._ledger = self._ledger, None
        self._record.record_whole(module, inputs, *self._macs)

    def record(
        self,
        module: nn.Module,
        dense: int,
        executed: int | Tensor,
        overhead: int = 0,
        reference: int = 0,
    ) -> None:
        """Pass the arguments of :meth:`MacLedger.record` on."""
        spent = int(executed) + overhead
        self._macs = (self._macs[0] + spent, self._macs[1] + dense)
        if self._ledger is not None:
            self._ledger.record(module, dense, executed, overhead, reference)


def _sum(macs: Iterable[Macs]) -> Macs:
    spent, dense = zip(*macs, strict=True)
    return sum(spent), sum(dense)


def _per_sample(calls: list[list[Macs]], samples: int) -> list[Macs]:
    """Add up the rows of a layer's calls in one forward.

    A call on all samples has whole frames of each, in sample-major order;
    calls on some (``max_testing_views``) follow each other.
    """
    if any(len(rows) % samples for rows in calls):
        calls = [[macs for rows in calls for macs in rows]]
    return [
        _sum(
            macs
            for rows in calls
            for macs in rows[sample * len(rows) // samples :][
                : len(rows) // samples
            ]
        )
        for sample in range(samples)
    ]

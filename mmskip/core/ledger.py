"""The ledger of multiply-accumulates (MACs).

1 MAC is one multiplication with its addition. Convolutions, transposed
convolutions and linear layers count, padded taps included; bias,
normalisation, activation and pooling do not. OpenMMLab's tables call the
same quantity FLOPs; true FLOPs are twice that.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn


class MacCount(NamedTuple):
    """Holds the MACs of a layer or a model.

    Attributes:
        dense: MACs that the unconverted model would do.
        executed: MACs that were done instead.
        overhead: MACs of gates, policies and cheap maps.
        reference: MACs of ``executed`` that went into reference frames.
    """

    dense: float
    executed: float
    overhead: float
    reference: float

    @classmethod
    def sum(cls, counts: 'Iterable[MacCount]') -> 'MacCount':
        """Add counts up."""
        columns = zip((0, 0, 0, 0), *counts, strict=True)
        return cls(*(sum(column) for column in columns))

    @property
    def spent(self) -> float:
        """MACs that were executed, overhead included."""
        return self.executed + self.overhead

    @property
    def reduction(self) -> float:
        """Ratio of the MACs of the dense model to those that were spent."""
        return self.dense / self.spent if self.spent else float('inf')

    @property
    def firing_rate(self) -> float:
        """Share of outputs computed outside reference frames."""
        dense = self.dense - self.reference
        return (self.executed - self.reference) / dense if dense else 0.0


class MacLedger:
    """Adds up the MACs that each layer of a model did, and would have done.

    It is filled inside :func:`mmskip.count_macs`; reading it synchronises with
    the device, filling it does not.

    Args:
        names: Name of each module that may report.

    Attributes:
        frames: Number of images (clips, for a model of 3-D convolutions):
            the batch that enters the first counted layer, once per forward of
            the model. It makes no difference whether that layer is called
            or runs as a step of a plan, see :meth:`note_batch`.
    """

    def __init__(self, names: dict[nn.Module, str]) -> None:
        self.frames = 0
        self._names = names
        self._entries: dict[str, _Entry] = {}
        self._products: dict[str, _Entry] = {}
        self._uncounted: Counter[str] = Counter()
        self._batch = 0
        self._in_forward = False
        self._depth = 0
        self._is_paused = False
        self._part: dict[str, int] = {}

    def begin_forward(self) -> None:
        """Note that a forward of the whole model starts."""
        self._in_forward = True
        self._batch = 0
        for entry in self._entries.values():
            entry.last_dense = 0

    def end_forward(self) -> None:
        """Note that it has ended, normally or not."""
        self._in_forward = False
        self._depth = 0

    def enter_layer(self) -> None:
        """Note that work begins which a layer accounts for."""
        self._depth += 1

    def leave_layer(self) -> None:
        """Note that this work has ended."""
        self._depth -= 1

    @property
    def in_layer(self) -> bool:
        """True while a layer accounts for the work that is done."""
        return self._depth > 0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Record nothing in a block, which does again what was recorded."""
        self._is_paused = True
        try:
            yield
        finally:
            self._is_paused = False

    def note_batch(self, batch: int) -> None:
        """Tell the ledger that a counted layer is about to run.

        The first one in a forward of the whole model says how many frames
        that forward has. A module that is called on its own is counted, but
        is no frame.

        Args:
            batch: Images (or clips) that enter the layer.
        """
        if self._in_forward and not self._batch:
            self._batch = batch
            self.frames += batch

    def record(
        self,
        module: nn.Module,
        dense: int,
        executed: int | Tensor,
        overhead: int = 0,
        reference: int = 0,
    ) -> None:
        """Add what a layer did in one call.

        Args:
            module: The layer.
            dense: MACs of the unconverted layer.
            executed: MACs done; an integer tensor is summed on its device.
            overhead: MACs of gates, policies and cheap maps.
            reference: MACs of ``executed`` done in reference frames.
        """
        if self._is_paused:
            return
        entry = self._entries.setdefault(self._names[module], _Entry())
        entry.dense += dense
        entry.last_dense += dense
        entry.overhead += overhead
        entry.reference += reference
        if not isinstance(executed, Tensor):
            entry.executed += executed
        elif entry.pending is None:
            entry.pending = executed.detach()
        else:
            entry.pending = entry.pending + executed.detach()

    def record_skipped_frames(self, frames: int) -> None:
        """Add frames for which the model did not run at all.

        They cost nothing and would have cost what a frame of the last
        forward did.
        """
        self.frames += frames
        for entry in self._entries.values():
            entry.dense += entry.last_dense * frames // max(self._batch, 1)

    def record_reused_part(self, ran: int, reused: int) -> None:
        """Add images for which a part of the model did not run.

        It is called right after that part, which is whatever ran so far in
        this forward; or in its place if it runs on no image at all, when it
        would have done what it did per image the last time.

        Args:
            ran: Images that the part was run on.
            reused: Images that it was not run on.
        """
        self.frames += ran + reused - self._batch
        self._batch = ran + reused
        if ran:
            self._part = {
                name: entry.last_dense // ran
                for name, entry in self._entries.items()
                if entry.last_dense
            }
        elif not self._part:
            self.record_uncounted('dense part, never run', reused)
        for name, dense in self._part.items():
            self._entries[name].dense += dense * reused

    def record_overhead(self, name: str, macs: int) -> None:
        """Add MACs of an operation that is no layer of the dense model."""
        self._entries.setdefault(name, _Entry()).overhead += macs

    def record_products(self, name: str, dense: int, executed: int) -> None:
        """Add the products of tokens with tokens in an attention.

        Args:
            name: Name of the attention.
            dense: MACs of all of them.
            executed: MACs of those that were computed.
        """
        if not self._is_paused:
            entry = self._products.setdefault(name, _Entry())
            entry.dense += dense
            entry.executed += executed

    def record_uncounted(self, name: str, calls: int = 1) -> None:
        """Note an operation whose MACs are not known."""
        if calls and not self._is_paused:
            self._uncounted[name] += calls

    def total(self) -> MacCount:
        """Add up the whole model, over all frames, as integers."""
        return MacCount.sum(self.by_module().values())

    def per_frame(self) -> MacCount:
        """Add up the whole model, per frame.

        Raises:
            RuntimeError: No forward of the model was counted.
        """
        if not self.frames:
            raise RuntimeError(
                'expected at least one forward of the model inside '
                'count_macs(), got none; call the model itself'
            )
        return MacCount(*(value / self.frames for value in self.total()))

    def by_module(self) -> dict[str, MacCount]:
        """Give the counts of each layer that ran, over all frames, as ints."""
        return {name: entry.count() for name, entry in self._entries.items()}

    def products(self) -> dict[str, MacCount]:
        """Give the MACs of products of tokens with tokens, by attention.

        They are those of a converted model's attention in a stream or clip,
        over all frames, as ints. They are in no layer, and not in
        :meth:`total`.
        """
        return {name: entry.count() for name, entry in self._products.items()}

    def uncounted(self) -> dict[str, int]:
        """List operations that were met and not counted, with their calls.

        Layers with weights of a kind unknown here, and matrix products or
        convolutions outside of any layer: calls in the first forward, where
        they are looked for. What a model itself reports (optical flow): calls
        in all forwards.
        """
        return dict(self._uncounted)


class LedgerReader:
    """Marks a metric, or the like, that reads a ledger which a hook fills."""

    ledger: MacLedger | None = None


class FrameSkipper:
    """Marks a model that answers some frames without running all of it.

    ``count_macs`` gives it the ledger; it reports such frames with
    :meth:`MacLedger.record_skipped_frames` or, if a part of it runs,
    :meth:`MacLedger.record_reused_part`.
    """

    mmskip_ledger: MacLedger | None = None


@dataclass
class _Entry:
    """Sums up one layer; ``pending`` is still on the device."""

    dense: int = 0
    executed: int = 0
    overhead: int = 0
    reference: int = 0
    last_dense: int = 0
    pending: Tensor | None = None

    def count(self) -> MacCount:
        if self.pending is not None:
            self.executed += int(self.pending)
            self.pending = None
        return MacCount(
            self.dense, self.executed, self.overhead, self.reference
        )

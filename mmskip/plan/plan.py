"""The plan of a module in one stream: its steps, and when they hold.

A plan computes the frames of a stream after the one it was made from. It
refers to the tensors of that frame, so it checks before each frame that no
weight, no setting and no memory that it refers to has been replaced.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import repeat
from typing import Any, NamedTuple

from torch import Tensor

from mmskip.native import fingerprint
from mmskip.skip_conv import (
    HeldMemory,
    NormGate,
    SkipConvMixin,
    SkipMemory,
    StreamBinding,
    StreamState,
)
from mmskip.skip_conv.layer import FrameMacs
from mmskip.skip_conv.native_layer import NativeCall
from mmskip.skip_conv.state import CallSite, Contents

from .steps import AttentionStep, FrameValues, NativeSteps, Step


class Slot(NamedTuple):
    """Stands for a value of a frame.

    Attributes:
        index: Its number.
    """

    index: int


class PlannedConv:
    """Makes a call of a Skip-Convolution a step of a plan.

    Args:
        layer: The layer that is called.
        site: The call site, under which the stream keeps its memory.
        call: The settings, and the memory unless the plan holds it.
        memory: Memory of the call site, which is updated in place, or stands
            for that of the plan.
        source: Number of the layer's input in the plan.
        mask: Bool (N, 1, H_out, W_out): the outputs that were computed in
            the last frame.
        macs: What a frame may cost.
    """

    def __init__(
        self,
        layer: SkipConvMixin,
        site: CallSite,
        call: NativeCall,
        memory: SkipMemory | HeldMemory,
        source: int,
        mask: Tensor,
        macs: FrameMacs,
    ) -> None:
        self.layer = layer
        self.site = site
        self.source = source
        self.mask = mask
        self.macs = macs
        self._call = call
        self._memory = memory
        self._gate = layer.gate.params()

    @property
    def nbytes(self) -> int:
        """Bytes of its memory."""
        return self._memory.nbytes

    def settings(self) -> Iterator[tuple[dict[str, Any], str]]:
        """List the dicts and keys of the settings that must stay."""
        layer = self.layer
        yield layer._parameters, 'weight'
        yield layer._parameters, 'bias'
        yield vars(layer), 'memory'
        yield vars(layer), 'activation'
        yield layer._modules, 'gate'
        if not self.asks_gate:
            yield vars(layer.gate), '_params'

    @property
    def asks_gate(self) -> bool:
        """True if only the gate itself knows whether it has changed.

        A norm gate drops its parameters when one of its settings changes.
        """
        return type(self.layer.gate).params is not NormGate.params

    def has_its_gate(self) -> bool:
        """Tell if the gate is what it was."""
        return self.layer.gate.params() is self._gate

    def has_its_weights(self) -> bool:
        """Tell if the weights hold the values that they had."""
        return self.layer.has_weights_of(self._call)

    def restore(self, state: StreamState) -> None:
        """Give a stream that was reset the memory of its call site back."""
        held = isinstance(self._memory, HeldMemory)
        state.restore(self.site, self._memory, None if held else self._call)
        state.note(self.site, self.mask)


class Postponed:
    """Stands for a plan that is made if its arguments come again.

    Args:
        key: Key of the arguments that it would be for.

    Attributes:
        runs: It computes frames at once if it is made.
    """

    runs = 0

    def __init__(self, key: Any) -> None:
        self.key = key

    def memory_beside(self, slots: Mapping[CallSite, SkipMemory]) -> int:
        """Count its bytes: none."""
        return 0


class Plan:
    """Computes the frames after one that was computed as a whole.

    Args:
        key: Key of the arguments that the plan is for.
        steps: The steps of a frame, in their order.
        convs: The Skip-Convolutions among them.
        fixed: All else that must not change.
        frame: The values that the steps work on.
        inputs: Numbers of the tensors that the module gets.
        result: Result of the module, with slots in place of tensors.
        nbytes: Bytes that are kept beside the memory of call sites.

    Attributes:
        clock: Seconds of native steps by name, if they are to be timed.
        runs: Number of frames that the plan has computed.
    """

    clock: dict[str, float] | None = None

    def __init__(
        self,
        key: Any,
        steps: Sequence[Step],
        convs: Sequence[PlannedConv],
        fixed: 'Fixed',
        frame: FrameValues,
        inputs: Sequence[int],
        result: Any,
        nbytes: int,
    ) -> None:
        self.key = key
        self.steps = steps
        self.convs = convs
        self.nbytes = nbytes
        self.runs = 0
        self.counts = Counter(conv.layer for conv in self.convs)
        self._dense = sum(conv.macs.dense for conv in self.convs)
        self._attention = [s for s in steps if isinstance(s, AttentionStep)]
        self._first = {c.layer: c.site[1] for c in reversed(self.convs)}
        # What is looked at in every frame.
        self._masks = {conv.site: conv.mask for conv in self.convs}
        self._settings = Contents(
            entry for conv in self.convs for entry in conv.settings()
        )
        self._asked = [conv for conv in self.convs if conv.asks_gate]
        self._places = [vars(layer) for layer in self.counts]
        self._fixed = fixed
        self._frame = frame
        self._inputs = inputs
        self._result = result

    def is_current(self, binding: StreamBinding) -> bool:
        """Tell if the plan continues the memory of the call sites.

        No weight or setting may have changed since it was made; since the
        last frame nothing else may have run at its call sites.

        Args:
            binding: The stream.
        """
        return binding.state.has_noted(self._masks) and self._holds(binding)

    def is_new_video(self, binding: StreamBinding) -> bool:
        """Tell if the stream was reset, and the plan may begin again.

        Args:
            binding: The stream.
        """
        slots = binding.state.slots
        return (
            not any(conv.site in slots for conv in self.convs)
            and self._holds(binding)
            and (binding.goes_on or self._has_its_values())
        )

    def _has_its_values(self) -> bool:
        return self._fixed.has_its_values() and all(
            conv.has_its_weights() for conv in self.convs
        )

    def _holds(self, binding: StreamBinding) -> bool:
        return (
            binding.has_counted(self._first)
            and self._settings.stay()
            and all(conv.has_its_gate() for conv in self._asked)
            and self._frame.native.holds()
            and self._fixed.holds()
        )

    def run(self, inputs: Sequence[Tensor], binding: StreamBinding) -> Any:
        """Compute the next frame.

        Args:
            inputs: Tensors that the module gets, in the shapes that it had.
            binding: The stream.

        Returns:
            Result of the module, in tensors of its own.
        """
        frame = self._frame
        ledger = self._begin(inputs)
        for step in self.steps:
            if self.clock is not None and isinstance(step, NativeSteps):
                step.time(frame, self.clock)
            else:
                step.run(frame, always=ledger is not None)
        binding.state.note_all(self._masks)
        return self._end(binding, ledger)

    def restart(self, inputs: Sequence[Tensor], binding: StreamBinding) -> Any:
        """Compute the first frame of another video, a reference frame.

        Nothing is traced or planned anew for it.

        Args:
            inputs: Tensors that the module gets, in the shapes that it had.
            binding: The stream, which was reset.

        Returns:
            Result of the module, in tensors of its own.
        """
        ledger = self._begin(inputs)
        self._restart(ledger)
        for conv in self.convs:
            conv.restore(binding.state)
        return self._end(binding, ledger, is_reference=True)

    def repeat(self, inputs: Sequence[Tensor]) -> Any:
        """Compute the reference frame again that the plan was made from.

        So that it is rounded as those of other videos, where the plan stores
        images in another type. It was counted already.

        Args:
            inputs: Tensors that the module got.

        Returns:
            Result of the module, in tensors of its own.
        """
        ledger = self._begin(inputs)
        with nullcontext() if ledger is None else ledger.paused():
            self._restart(ledger)
        return copy_slots(self._result, self._frame.own)

    def _restart(self, ledger: Any) -> None:
        for step in self.steps:
            step.restart(self._frame, ledger)

    def memory_beside(self, slots: Mapping[CallSite, SkipMemory]) -> int:
        """Count the bytes of the plan that are not in slots of a stream."""
        kept = sum(step.nbytes for step in self._attention)
        return (
            self.nbytes
            + kept
            + sum(conv.nbytes for conv in self.convs if conv.site not in slots)
        )

    def _begin(self, inputs: Sequence[Tensor]) -> Any:
        """Take the frame in; returns the ledger if MACs are counted."""
        frame = self._frame
        for index, value in zip(self._inputs, inputs, strict=True):
            frame.put(index, value)
            frame.mark(index, True)
        ledgers = map(dict.get, self._places, repeat('_ledger'))
        ledger = next((one for one in ledgers if one is not None), None)
        if ledger is not None:
            ledger.note_batch(self._fixed.batch)
        return ledger

    def _cost(self, computed: Sequence[int]) -> tuple[int, int]:
        """Add up the MACs of a frame, and those of a dense one."""
        executed = sum(
            number * conv.macs.per_output + conv.macs.overhead
            for conv, number in zip(self.convs, computed, strict=True)
        )
        return executed, self._dense

    def _end(
        self, binding: StreamBinding, ledger: Any, is_reference: bool = False
    ) -> Any:
        """Count what was done; returns the result of the module."""
        wants_cost = binding.counts_cost and not is_reference
        if ledger is not None or wants_cost:
            computed = self._frame.native.computed()
        if wants_cost:
            binding.note_cost(*self._cost(computed))
        if ledger is not None:
            for conv, number in zip(self.convs, computed, strict=True):
                conv.layer.record_frame(conv.macs, number, is_reference)
            for step in self._attention:
                ledger.record_products(step.name, step.dense, step.executed)
        binding.count(self.counts)
        self.runs += 1
        return copy_slots(self._result, self._frame.own)


class Fixed:
    """Notes what a plan takes for granted beside its Skip-Convolutions.

    Args:
        read: Where other tensors are that its steps read, see
            :func:`.record.tensors_read`.
        norms: Tensors of batch norms whose values are in the steps.
        batch: Images that enter the first layer with weights.
    """

    def __init__(
        self,
        read: Sequence[tuple[dict[str, Any], str]],
        norms: Sequence[Tensor],
        batch: int,
    ) -> None:
        self.batch = batch
        self._read = Contents(read)
        self._norms = [(tensor, fingerprint(tensor)) for tensor in norms]

    def holds(self) -> bool:
        """Tell if all is as it was; values of tensors may have changed."""
        return self._read.stay()

    def has_its_values(self) -> bool:
        """Tell if no value is another, however it was written."""
        return all(fingerprint(norm) == known for norm, known in self._norms)


def copy_slots(tree: Any, value_of: Callable[[int], Any]) -> Any:
    """Copy lists, tuples and dicts, with values in place of slots."""
    if isinstance(tree, Slot):
        return value_of(tree.index)
    if isinstance(tree, dict):
        return {k: copy_slots(v, value_of) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        items = [copy_slots(item, value_of) for item in tree]
        if isinstance(tree, list):
            return items
        named = hasattr(tree, '_fields')
        return type(tree)(*items) if named else type(tree)(items)
    return tree

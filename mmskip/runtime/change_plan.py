"""The steps of a part of a model, in one stream."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from mmskip.layers import SkipConvMixin

from .bindings import StreamBinding
from .change_steps import Board, NativeSteps, Step
from .state import CallSite


class Slot(NamedTuple):
    """Stands for a value of the board.

    Attributes:
        index: Its number.
    """

    index: int


class PlannedConv:
    """A call of a Skip-Convolution that is a step of a board.

    Args:
        layer: Whose call it is.
        site: Where its memory is.
        source: Number of its input.
        mask: Bool (N, 1, H_out, W_out): what was computed in a frame.
    """

    def __init__(
        self,
        layer: SkipConvMixin,
        site: CallSite,
        source: int,
        mask: Tensor,
    ) -> None:
        self.layer = layer
        self.site = site
        self.source = source
        self.mask = mask
        # Looked up past torch's __getattr__: this is done in every frame.
        self._parameters = layer._parameters
        self._modules = layer._modules
        self._weight = layer._parameters.get('weight')
        self._bias = layer._parameters.get('bias')
        self._gate = layer.gate.params()
        self._others = layer.memory, layer.activation

    def is_current(self) -> bool:
        """Whether no setting has changed; values of weights may have."""
        layer = self.layer
        return (
            self._modules['gate'].params() is self._gate
            and self._parameters.get('weight') is self._weight
            and self._parameters.get('bias') is self._bias
            and (layer.memory, layer.activation) == self._others
        )


class Plan:
    """What computes the frames after one that was computed as a whole.

    Args:
        key: Of the arguments that it is for.
        steps: In their order.
        convs: That are among them.
        read: What other tensors they read, see
            :func:`.change_record.tensors_read`.
        board: The values they work on.
        inputs: Numbers of the tensors that the part gets.
        result: What it returns, slots in place of tensors.
        nbytes: Kept beside the memory of call sites.

    Attributes:
        clock: Seconds of native steps by name, if they are to be timed.
    """

    clock: dict[str, float] | None = None

    def __init__(
        self,
        key: Any,
        steps: Sequence[Step],
        convs: Sequence[PlannedConv],
        read: Sequence[tuple[dict[str, Any], str, Tensor]],
        board: Board,
        inputs: Sequence[int],
        result: Any,
        nbytes: int,
    ) -> None:
        self.key = key
        self.steps = steps
        self.convs = convs
        self.nbytes = nbytes
        self.counts = Counter(conv.layer for conv in convs)
        self._first = {c.layer: c.site[1] for c in reversed(convs)}
        self._read = read
        self._board = board
        self._inputs = inputs
        self._result = result

    def is_current(self, binding: StreamBinding) -> bool:
        """Whether it continues what the call sites remember.

        No weight or setting may have changed since it was made; since the
        last frame nothing else may have run at its call sites.

        Args:
            binding: Of the stream.
        """
        # Plain loops: this is done in every frame.
        for layer, first in self._first.items():
            if binding.calls_of(layer) != first:
                return False
        last_mask = binding.state.last_mask
        for conv in self.convs:
            if last_mask(conv.site) is not conv.mask or not conv.is_current():
                return False
        return self._board.native.holds() and all(
            place.get(key) is tensor for place, key, tensor in self._read
        )

    def run(self, inputs: Sequence[Tensor]) -> Any:
        """Compute the next frame.

        Args:
            inputs: What the part gets, of the shapes it had.

        Returns:
            What the part returns, in tensors of its own.
        """
        board = self._board
        for index, value in zip(self._inputs, inputs, strict=True):
            board.put(index, value)
            board.mark(index, True)
        counted = any(conv.layer._ledger is not None for conv in self.convs)
        for step in self.steps:
            if self.clock is not None and isinstance(step, NativeSteps):
                step.time(board, self.clock)
            else:
                step.run(board, always=counted)
        if counted:
            for conv in self.convs:
                size = board.values[conv.source].shape
                conv.layer.record_frame(size, conv.mask)
        return copy_slots(self._result, board.own)


def copy_slots(tree: Any, value_of: Callable[[int], Any]) -> Any:
    """Lists, tuples and dicts with values in place of slots."""
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

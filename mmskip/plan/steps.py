"""The steps of a frame: native ones, and those that torch takes."""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils import _pytree

from mmskip.core import is_channels_last
from mmskip.native import library as native

#: Places where a value differs from the frame before: a bool tensor
#: (N, 1, H, W), True for anywhere, or False for nowhere.
Change = Tensor | bool
#: Kinds of change, as in csrc/plan.h.
_NOWHERE, _MAPPED, _ANYWHERE = range(3)
#: Share of changed positions from which all are computed.
_MOST = 0.5


class TensorKind(NamedTuple):
    """Describes a tensor as the module computes it, without a plan.

    Attributes:
        dtype: Its type.
        layout: The order in memory.
    """

    dtype: torch.dtype
    layout: torch.memory_format


class FrameValues:
    """Holds the values of a graph, by number, and where they have changed.

    Args:
        values: Tensors, or what else a node returns.
        size: Number of values that there will be.
    """

    def __init__(self, values: Sequence[Any], size: int) -> None:
        self.native = native.new_plan(size)
        self._values = [None] * size
        #: Kinds of the tensors in each value.
        self._kinds = [
            list(map(_kind, _pytree.tree_leaves(value))) for value in values
        ]
        for index, value in enumerate(values):
            self.put(index, value)

    def __getitem__(self, index: int) -> Any:
        return self._values[index]

    def put(self, index: int, value: Any) -> None:
        """Set a value."""
        self._values[index] = value
        if torch.is_tensor(value):
            self.native.put(index, value)

    def drop(self, index: int) -> None:
        """Forget a value that nothing reads."""
        self.put(index, torch.empty(0))

    def as_given(self, index: int) -> Any:
        """Give a value in the type and the order that the given one had."""
        value = self._values[index]
        if not torch.is_tensor(value):
            return value
        (kind,) = self._kinds[index]
        value = value.to(kind.dtype)
        if kind.layout is torch.preserve_format:
            return value
        return value.contiguous(memory_format=kind.layout)

    def own(self, index: int) -> Any:
        """Copy a value into tensors of the kinds that the given ones had."""
        return copy_tensors(self._values[index], self._kinds[index])

    def mark(self, index: int, change: Change) -> None:
        """Say where a value has changed."""
        if torch.is_tensor(change):
            self.native.mark(index, _MAPPED, change)
        else:
            self.native.mark(index, _ANYWHERE if change else _NOWHERE, None)

    def change(self, index: int) -> Change:
        """Tell where a value has changed."""
        change = self.native.change(index)
        return self.native.map(index) if change == _MAPPED else bool(change)


class Step(Protocol):
    """Brings values up to date."""

    def restart(self, frame: FrameValues, ledger: Any) -> None:
        """Take the step in the first frame of a video.

        Args:
            frame: Values of the stream.
            ledger: Ledger in which MACs are counted, or None.
        """

    def run(self, frame: FrameValues, always: bool) -> None:
        """Take the step.

        Args:
            frame: Values of the stream.
            always: True computes what may be counted even if nothing
                changed.
        """


class PythonStep:
    """Takes a step that is the same in all frames."""

    def run(self, frame: FrameValues, always: bool) -> None:
        """Bring the result up to date."""
        raise NotImplementedError

    def restart(self, frame: FrameValues, ledger: Any) -> None:
        """Compute it whole."""
        self.run(frame, always=True)


class NativeSteps:
    """Takes the steps of the library: Skip-Convolutions, sums, joins.

    Args:
        begin: Number of the first.

    Attributes:
        names: One for each; of Skip-Convolutions those of the layers.
    """

    def __init__(self, begin: int) -> None:
        self.begin = begin
        self.names: list[str] = []

    def run(self, frame: FrameValues, always: bool) -> None:
        """Take the steps."""
        frame.native.run(self.begin, self.begin + len(self.names))

    def restart(self, frame: FrameValues, ledger: Any) -> None:
        """Take them in the first frame of a video."""
        if ledger is not None:
            ledger.enter_layer()
        frame.native.begin(self.begin, self.begin + len(self.names))
        if ledger is not None:
            ledger.leave_layer()

    def time(self, frame: FrameValues, clock: dict[str, float]) -> None:
        """Take the steps one by one, and add the seconds of each by name."""
        for number, name in enumerate(self.names, self.begin):
            start = perf_counter()
            frame.native.run(number, number + 1)
            clock[name] = clock.get(name, 0.0) + perf_counter() - start


class PointStep(PythonStep):
    """Applies an operation that takes each position for itself.

    Args:
        function: Operation on images (K, C, 1, 1), or (N, C, H, W).
        sources: Numbers of the images, of one size.
        target: Number of the result.
        result: Tensor that keeps the result, in channels_last.
    """

    def __init__(
        self,
        function: Callable[[list[Tensor]], Tensor],
        sources: Sequence[int],
        target: int,
        result: Tensor,
    ) -> None:
        self.function = function
        self.sources = sources
        self.target = target
        self.result = result
        self._known = False

    def run(self, frame: FrameValues, always: bool) -> None:
        """Bring the result up to date."""
        changes = [frame.change(i) for i in self.sources]
        if not self._known:
            self._known = True
            frame.put(self.target, self.result)
            changes = [True]
        frame.mark(self.target, self._update(frame, changes))

    def _update(self, frame: FrameValues, changes: list[Change]) -> Change:
        maps = [change for change in changes if change is not False]
        if not maps:
            return False
        # Torch takes more digits than may be stored, if there is a choice.
        values = [frame[i].float() for i in self.sources]
        if any(change is True for change in maps):
            self.result.copy_(self.function(values))
            return True
        mask = maps[0]
        for other in maps[1:]:
            mask = mask | other
        places = mask.flatten().nonzero().flatten()
        if len(places) > _MOST * mask.numel():
            self.result.copy_(self.function(values))
        else:
            rows = [_rows(v).index_select(0, places) for v in values]
            some = self.function([r[:, :, None, None] for r in rows])
            some = some.flatten(1).to(self.result.dtype)
            _rows(self.result).index_copy_(0, places, some)
        return mask


class WholeStep(PythonStep):
    """Computes any other operation, whole, if an input changed.

    It gets tensors as the dense model would: torch normalises groups of an
    image that is channels last with fewer digits, and some look into memory.

    Args:
        function: Operation on the values of the inputs.
        sources: Numbers of the inputs.
        target: Number of the result.
    """

    def __init__(
        self,
        function: Callable[[list[Any]], Any],
        sources: Sequence[int],
        target: int,
    ) -> None:
        self.function = function
        self.sources = sources
        self.target = target

    def run(self, frame: FrameValues, always: bool) -> None:
        """Bring the result up to date."""
        changed = any(frame.change(i) is not False for i in self.sources)
        if changed or always:
            values = [frame.as_given(i) for i in self.sources]
            frame.put(self.target, self.function(values))
        frame.mark(self.target, changed)


def copy_tensors(value: Any, kinds: Sequence[TensorKind | None]) -> Any:
    """Copy the value of a node: a tensor, or lists and dicts of them."""
    if torch.is_tensor(value):
        return _copy(value, kinds[0])  # in most frames
    leaves, spec = _pytree.tree_flatten(value)
    copies = [
        leaf if kind is None else _copy(leaf, kind)
        for leaf, kind in zip(leaves, kinds, strict=True)
    ]
    return _pytree.tree_unflatten(copies, spec)


def _copy(tensor: Tensor, kind: TensorKind) -> Tensor:
    if tensor.dtype is kind.dtype:
        return tensor.clone(memory_format=kind.layout)
    return tensor.to(kind.dtype, memory_format=kind.layout)


def _kind(value: Any) -> TensorKind | None:
    if not torch.is_tensor(value):
        return None
    layout = torch.preserve_format
    if value.is_contiguous():
        layout = torch.contiguous_format
    elif value.dim() == 4 and is_channels_last(value):  # no plan of clips
        layout = torch.channels_last
    return TensorKind(value.dtype, layout)


def _rows(image: Tensor) -> Tensor:
    """View an image as positions (N * H * W, C)."""
    image = image.contiguous(memory_format=torch.channels_last)
    return image.permute(0, 2, 3, 1).flatten(0, 2)

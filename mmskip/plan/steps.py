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


class Rows(NamedTuple):
    """Says where the tokens of a node are.

    Attributes:
        number: Number of a value of the frame.
        is_image: The value is (N, C, H, W), and its positions are the
            tokens; else it is (..., C).
    """

    number: int
    is_image: bool

    def read(self, frame: FrameValues) -> Tensor:
        """Give the tokens (P, C)."""
        value = frame[self.number]
        if self.is_image:
            value = value.permute(0, 2, 3, 1)
        return value.reshape(-1, value.shape[-1])

    def change(self, frame: FrameValues) -> Tensor | bool:
        """Tell which tokens changed: bool (P,), True for all, or False."""
        change = frame.change(self.number)
        return change if isinstance(change, bool) else change.flatten()


class RowStep(PythonStep):
    """Brings tokens up to date that were made from changed ones.

    Args:
        target: Number of the result.
        result: Tensor (N, C, H, W) that keeps it, channels last.
        known: True if the result of the frame before is in it.
    """

    #: Share of changed tokens from which all are computed.
    most = _MOST

    def __init__(self, target: int, result: Tensor, known: bool) -> None:
        self.target = target
        self.result = result
        self._known = known

    @property
    def rows(self) -> Tensor:
        """The result as tokens (P, C)."""
        result = self.result.permute(0, 2, 3, 1)
        return result.view(-1, result.shape[-1])

    def restart(self, frame: FrameValues, ledger: Any) -> None:
        """Compute all, in the first frame of a video."""
        self._known = False
        self.run(frame, always=True)

    def run(self, frame: FrameValues, always: bool) -> None:
        """Bring the result up to date."""
        change = self.change(frame) if self._known else True
        if not self._known:
            self._known = True
            frame.put(self.target, self.result)
        if change is True:
            self.compute(frame, None)
        elif change is not False:
            places = change.nonzero().flatten()
            if not len(places):
                change = False
            elif len(places) > self.most * len(change):
                self.compute(frame, None)
            else:
                self.compute(frame, places)
        if not isinstance(change, bool):
            size = len(self.result), 1, *self.result.shape[2:]
            change = change.contiguous().view(size)
        frame.mark(self.target, change)

    def change(self, frame: FrameValues) -> Tensor | bool:
        """Tell which tokens of the result change, see :meth:`Rows.change`."""
        raise NotImplementedError

    def compute(self, frame: FrameValues, places: Tensor | None) -> None:
        """Compute tokens with these numbers, or all of them."""
        raise NotImplementedError


class MoveStep(RowStep):
    """Moves tokens, or their numbers, to other places.

    Args:
        source: Tokens (P, C) that are moved.
        index: Number of the token that comes to each place, (P',), or of
            the value in the tokens, (P', C'); -1 is padding with zeros.
        origins: Numbers of the tokens that a place reads, (P', K); -1 for
            none.
        *result: What :class:`RowStep` takes.
    """

    def __init__(
        self, source: Rows, index: Tensor, origins: Tensor, *result: Any
    ) -> None:
        super().__init__(*result)
        self._source = source
        self._index = index.clamp_min(0)
        self._padded = index < 0
        self._pads = bool(self._padded.any())
        self._origins = origins.clamp_min(0)
        self._no_origin = origins < 0

    def change(self, frame: FrameValues) -> Tensor | bool:
        """Tell which tokens of the result change."""
        change = self._source.change(frame)
        if isinstance(change, bool):
            return change
        read = change[self._origins]
        if self._pads:
            read &= ~self._no_origin
        return read.flatten() if read.shape[1] == 1 else read.any(1)

    def compute(self, frame: FrameValues, places: Tensor | None) -> None:
        """Move tokens."""
        index, padded = self._index, self._padded
        if places is not None:
            index, padded = index[places], padded[places]
        rows = self._source.read(frame)
        if index.dim() == 1:
            moved = rows.index_select(0, index)
        else:
            moved = rows.reshape(-1)[index]
        if self._pads:
            moved[padded] = 0
        if places is None:
            self.rows.copy_(moved)
        else:
            self.rows.index_copy_(0, places, moved)


class TokenStep(RowStep):
    """Applies an operation that takes each token for itself.

    Args:
        function: Operation on tokens (K, C), a list of them.
        sources: Its arguments: tokens of the frame, or (P, C) that stay.
        *result: What :class:`RowStep` takes.
    """

    def __init__(
        self,
        function: Callable[[list[Tensor]], Tensor],
        sources: Sequence[Rows | Tensor],
        *result: Any,
    ) -> None:
        super().__init__(*result)
        self._function = function
        self._sources = sources

    def change(self, frame: FrameValues) -> Tensor | bool:
        """Tell which tokens of the result change."""
        moving = [s for s in self._sources if isinstance(s, Rows)]
        changes = [source.change(frame) for source in moving]
        if any(change is True for change in changes):
            return True
        maps = [change for change in changes if change is not False]
        return torch.stack(maps).any(0) if len(maps) > 1 else (*maps, False)[0]

    def compute(self, frame: FrameValues, places: Tensor | None) -> None:
        """Compute tokens."""
        rows = [
            s.read(frame) if isinstance(s, Rows) else s for s in self._sources
        ]
        if places is None:
            self.rows.copy_(self._function(rows))
        else:
            some = self._function([r.index_select(0, places) for r in rows])
            self.rows.index_copy_(0, places, some)


class AttentionStep(RowStep):
    """Computes products of tokens with tokens, which are counted.

    Args:
        name: Name of the attention.
        dense: MACs of all products.
        *result: What :class:`RowStep` takes.

    Attributes:
        executed: MACs of those that were computed in this frame.
        nbytes: Bytes that are kept beside the result.
    """

    most = 1.0
    nbytes = 0

    def __init__(self, name: str, dense: int, *result: Any) -> None:
        super().__init__(*result)
        self.name = name
        self.dense = dense
        self.executed = 0

    def run(self, frame: FrameValues, always: bool) -> None:
        """Bring the result up to date."""
        self.executed = 0
        super().run(frame, always)


class ViewStep(PythonStep):
    """Shows a value in another shape, under another number.

    Args:
        source: Number of the value.
        target: Number of what it is shown as.
        view: Makes the other shape of its tensor.
    """

    def __init__(
        self, source: int, target: int, view: Callable[[Tensor], Tensor]
    ) -> None:
        self._source = source
        self._target = target
        self._view = view

    def run(self, frame: FrameValues, always: bool) -> None:
        """Show it."""
        change = frame.change(self._source)
        shown = self._view(frame[self._source])
        frame.put(self._target, shown)
        if not isinstance(change, bool):
            size = shown.shape[:1], shown.shape[2:]
            if shown.dim() == 4 and change.numel() == size[0][0] * (
                size[1].numel()
            ):
                change = change.reshape(*size[0], 1, *size[1])
            else:
                change = True
        frame.mark(self._target, change)


class FollowTokens(RowStep):
    """Keeps a copy of tokens that come from outside, to know what changes.

    Args:
        source: The tokens.
        *result: What :class:`RowStep` takes.
    """

    def __init__(self, source: Rows, *result: Any) -> None:
        super().__init__(*result)
        self._source = source

    def change(self, frame: FrameValues) -> Tensor | bool:
        """Compare."""
        return (self._source.read(frame) != self.rows).any(1)

    def compute(self, frame: FrameValues, places: Tensor | None) -> None:
        """Copy."""
        rows = self._source.read(frame)
        if places is None:
            self.rows.copy_(rows)
        else:
            some = rows.index_select(0, places)
            self.rows.index_copy_(0, places, some)


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
    if (
        kind.dtype is torch.float32
        and tensor.dtype in (torch.float32, torch.bfloat16)
        and kind.layout is not torch.preserve_format
        and tensor.is_contiguous(memory_format=kind.layout)
    ):
        return native.float_copy(tensor)
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

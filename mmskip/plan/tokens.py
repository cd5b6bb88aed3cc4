"""The lowering of a graph over tokens: linear layers, attention, windows.

A token is a row of numbers, as a pixel is one that lies channels last; what
takes each token for itself (linear layers, normalisation, GELU, sums) is
computed where a token changed. Views, permutations, rolls, padding and the
cutting of windows compute nothing: one index says what all of them together
do to the rows, and rows are moved once, where they changed, before the next
layer reads them.
"""

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from mmskip.skip_conv import SkipLinearMixin
from mmskip.skip_conv.attention import (
    attend,
    attend_all,
    masks_of,
    window_macs,
)
from mmskip.skip_conv.kept_attention import (
    AttentionInputs,
    KeptAttention,
    results_of,
)

from .graph import compute
from .kinds import Sum, are_tokens, find_sums, is_image, is_row_wise
from .lower import NodeCall, NotPlannedError, Planner
from .record import products_of
from .steps import (
    AttentionStep,
    FollowTokens,
    FrameValues,
    MoveStep,
    Rows,
    RowStep,
    TokenStep,
    ViewStep,
)

#: Methods that move numbers and compute none.
_MOVING_METHODS = {
    'chunk',
    'clone',
    'contiguous',
    'flatten',
    'movedim',
    'narrow',
    'permute',
    'reshape',
    'roll',
    'select',
    'split',
    'squeeze',
    'swapaxes',
    't',
    'transpose',
    'unbind',
    'unflatten',
    'unsqueeze',
}
_MOVING_FUNCTIONS = {
    F.pad,
    operator.getitem,
    torch.chunk,
    torch.flatten,
    torch.permute,
    torch.reshape,
    torch.roll,
    torch.split,
    torch.squeeze,
    torch.transpose,
    torch.unbind,
    torch.unsqueeze,
}
_MOVING_MODULES = (nn.Flatten, nn.Unflatten, nn.Unfold)


class TokenPlanner(Planner):
    """Plans a graph with linear layers over tokens.

    Tokens are kept in float32. What depends on tokens in a way that is not
    known here is computed whole where one of them changed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: Where the tokens of nodes are that some step computes.
        self._rows: dict[fx.Node, Rows] = {}
        #: Nodes that only move tokens: where from, and numbers of values.
        self._moved: dict[fx.Node, tuple[fx.Node, Any]] = {}
        self._made: dict[tuple[fx.Node, bool], Rows] = {}
        self._shown: set[fx.Node] = set()
        super().__init__(*args, **kwargs)

    def _storage(self, dtype: torch.dtype) -> torch.dtype:
        return torch.float32

    def _find_sums(self) -> tuple[dict[fx.Node, Sum], set[fx.Node]]:
        """Find sums of images; tokens may have four dimensions, too."""
        self._images = self._find_images()
        known = self._images | self._constants
        values = {
            n: v if n in known else None for n, v in self._values.items()
        }
        return find_sums(self._graph, self._module, values)

    def _find_images(self) -> set[fx.Node]:
        """Find nodes that are images as convolutions make them."""
        images: set[fx.Node] = set()
        for node in self._graph.nodes:
            inputs = self._inputs(node)
            if not is_image(self._values[node]) or node.op == 'output':
                continue
            if node in self._sites:
                if not self._is_linear(node):
                    images.add(node)
            elif node.op == 'placeholder':
                if not any(map(self._reads_tokens, node.users)):
                    images.add(node)
            elif (
                inputs and images.issuperset(inputs) and not self._moves(node)
            ):
                images.add(node)
        return images

    def _reads_tokens(self, node: fx.Node) -> bool:
        """Tell if a node reads tokens (..., C), and no images."""
        if node.op != 'call_module':
            return False
        part = self._module.get_submodule(node.target)
        return isinstance(part, (SkipLinearMixin, nn.LayerNorm))

    def _is_linear(self, node: fx.Node) -> bool:
        layer = self._module.get_submodule(node.target)
        return isinstance(layer, SkipLinearMixin)

    def _moves(self, node: fx.Node) -> bool:
        """Tell if a node moves the numbers of one value, and no more."""
        inputs = self._inputs(node)
        if len(inputs) != 1 or not node.args or node.args[0] is not inputs[0]:
            return False
        if not torch.is_tensor(self._values[node]) and any(
            user.target is not operator.getitem for user in node.users
        ):
            return False
        if node.op == 'call_method':
            return node.target in _MOVING_METHODS
        if node.op == 'call_module':
            part = self._module.get_submodule(node.target)
            return type(part) in _MOVING_MODULES
        if node.target is F.pad:
            options = {'mode': 'constant', 'value': None, **node.kwargs}
            return options['mode'] == 'constant' and not options['value']
        return node.target in _MOVING_FUNCTIONS

    def _inputs(self, node: fx.Node) -> list[fx.Node]:
        """List what a node reads and what is no constant."""
        return [n for n in node.all_input_nodes if n not in self._constants]

    def _add_input(self, node: fx.Node, number: int) -> int:
        value = self._values[node]
        if node in self._images:
            self._rows[node] = Rows(number, True)
        if node in self._images or not are_tokens(value):
            return super()._add_input(node, number)
        source = self._new_number()
        rows = value.reshape(-1, value.shape[-1])
        step = FollowTokens(Rows(source, False), *self._result(node, rows))
        self._rows[node] = self._add_rows(step)
        return source

    def _add_conv(self, node: fx.Node) -> None:
        origin, last = node.args[0], self._finished.get(node, node)
        value, target = self._values[last], self._numbers[last]
        memory = self._state.slots[self._sites[node]].whole()
        if self._is_linear(node):
            size = memory.output.shape
            value = value.reshape(size[0], *size[2:], size[1])
            value, target = value.permute(0, 3, 1, 2), self._new_number()
        if origin in self._images and not self._is_linear(node):
            source = self._source(origin)
        else:
            rows = self._tokens(origin, not self._is_linear(node))
            source = self._view(rows, memory.input.shape)
        self._add_site(node, source, target, value)
        self._rows[last] = Rows(target, True)

    def _add_other(self, node: fx.Node) -> None:
        inputs = self._inputs(node)
        if node in self._images:
            super()._add_other(node)
            self._rows[node] = Rows(self._numbers[node], True)
        elif node.target is attend:
            self._add_windows(node, inputs[0])
        elif self._keeps(node, inputs):
            self._add_sequence(node)
        elif self._moves(node) and self._origin(inputs[0]):
            self._add_move(node, inputs[0])
        elif is_row_wise(node, inputs, self._module, self._values) and all(
            map(self._origin, inputs)
        ):
            self._add_tokens(node, inputs)
        else:
            for origin in inputs:
                self._show(origin)
            self._add_whole(node, inputs)
            if are_tokens(self._values[node]):
                self._rows[node] = Rows(self._numbers[node], False)

    def _useless(self) -> Iterable[fx.Node]:
        output = next(reversed(self._graph.nodes))
        for node in self._inputs(output):
            self._show(node)
        read = {rows.number for rows in self._rows.values()}
        tokens = {*self._rows, *self._moved} - self._shown
        unread = [n for n in tokens if self._numbers[n] not in read]
        return *super()._useless(), *unread

    def _origin(self, node: fx.Node) -> fx.Node | None:
        """Name the node whose tokens a node is, or moves; None for others."""
        if node in self._rows:
            return node
        return self._moved[node][0] if node in self._moved else None

    def _places(self, node: fx.Node) -> Any:
        """Number the values of a node by their place in its origin, from 1.

        Padding is 0. Torch moves no integers in all ways that it moves
        others.
        """
        if node in self._moved:
            return self._moved[node][1]
        value = self._values[node]
        numbers = torch.arange(1, value.numel() + 1, dtype=torch.float64)
        if not self._lies_as_image(node):
            return numbers.view(value.shape)
        images, channels, *size = value.shape
        return numbers.view(images, *size, channels).permute(0, 3, 1, 2)

    def _lies_as_image(self, node: fx.Node) -> bool:
        """Tell if the tokens of an origin are the pixels of its value."""
        is_site = node in self._sites or node in self._finished.values()
        return node in self._images or (is_site and not self._is_linear(node))

    def _add_move(self, node: fx.Node, origin: fx.Node) -> None:
        """Note where a node moves tokens; nothing is computed for it."""
        given = {n: self._values[n] for n in self._constants}
        given[origin] = self._places(origin)
        places = compute(node, self._module, given.__getitem__)
        self._moved[node] = self._origin(origin), places

    def _tokens(self, node: fx.Node, as_image: bool) -> Rows:
        """Find or make the tokens (P, C) of a node.

        Args:
            node: Node with an origin.
            as_image: True for the pixels of (N, C, H, W); else (..., C).
        """
        if node in self._constants:
            self._rows[node] = Rows(self._numbers[node], False)
        if node in self._rows and self._lies_as_image(node) == as_image:
            return self._rows[node]
        if (node, as_image) not in self._made:
            places = self._places(node)
            if as_image:
                places = places.permute(0, 2, 3, 1)
            index = places.reshape(-1, places.shape[-1]).long() - 1
            rows = self._rows[self._origin(node)]
            self._made[node, as_image] = self._moved_rows(node, rows, index)
        return self._made[node, as_image]

    def _moved_rows(self, node: fx.Node, rows: Rows, index: Tensor) -> Rows:
        """Move tokens, unless they stay where they are.

        Args:
            node: Node that they are moved for.
            rows: The tokens.
            index: Number of the value that comes to each place, (P, C); -1
                for padding.
        """
        channels = self._channels(rows)
        origins, whole = index.div(channels, rounding_mode='floor'), index
        steps = torch.arange(index.shape[1])
        kept = (index == index[:, :1] + steps).all(1) & (
            index[:, 0] % channels == 0
        )
        padded = (index < 0).all(1)
        if index.shape[1] == channels and bool((kept | padded).all()):
            whole = origins = origins[:, 0]
            count = self._frame[rows.number].numel() // channels
            if torch.equal(whole, torch.arange(count)):
                return rows
        value = self._values[node].flatten()[:0]
        if not self._begins:
            read = rows.read(self._frame)
            value = read[whole] if whole.dim() == 1 else read.flatten()[whole]
            value[whole < 0] = 0
        result = self._result(node, value, index.shape)
        step = MoveStep(rows, whole, _distinct(origins), *result)
        return self._add_rows(step)

    def _channels(self, rows: Rows) -> int:
        value = self._frame[rows.number]
        return value.shape[1] if rows.is_image else value.shape[-1]

    def _add_tokens(self, node: fx.Node, inputs: Sequence[fx.Node]) -> None:
        """Add what takes each token for itself."""
        shape = self._values[node].shape
        sources, names = [], list(inputs)
        for n in inputs:
            sources.append(self._tokens(n, as_image=False))
        fixed = {}
        for n in node.all_input_nodes:
            value = self._values[n]
            if n in inputs:
                continue
            if torch.is_tensor(value) and value.dim() > 1:
                # Of its own for each position, as embeddings are.
                names.append(n)
                value = value.expand(shape).reshape(-1, shape[-1])
                sources.append(value)
            else:
                fixed[n] = value
        function = NodeCall(node, self._module, names, fixed)
        value = self._values[node].reshape(-1, shape[-1])
        result = self._result(node, value)
        self._rows[node] = self._add_rows(
            TokenStep(function, sources, *result)
        )

    def _add_windows(self, node: fx.Node, origin: fx.Node) -> None:
        *options, bias, mask = node.args[1:]
        if not {origin, mask}.issuperset(self._inputs(node)):
            raise NotPlannedError(f'{node.name} reads no tokens')
        if bias is not None:
            bias = self._values[bias]
        if mask is not None:
            mask = self._tokens(mask, as_image=False)
        value = self._values[node]
        result = self._result(node, value.reshape(-1, value.shape[-1]))
        rows = self._tokens(origin, as_image=False)
        options = [*options, bias]
        known = node.kwargs['name'], products_of(node, self._values), *result
        step = WindowStep(rows, mask, len(value), options, *known)
        self._rows[node] = self._add_rows(step)

    def _keeps(self, node: fx.Node, inputs: Sequence[fx.Node]) -> bool:
        """Tell if a node attends over tokens, by a mask that stays."""
        return (
            node.target is attend_all
            and {*node.args[:3]} == {*inputs}
            and all(map(self._origin, inputs))
        )

    def _add_sequence(self, node: fx.Node) -> None:
        *tokens, num_heads, mask, scale = node.args
        value = self._values[node]
        sources = [self._tokens(n, as_image=False) for n in tokens]
        result = self._result(node, value.reshape(-1, value.shape[-1]))
        step = SequenceStep(
            sources,
            len(value),
            num_heads,
            None if mask is None else self._values[mask],
            scale,
            node.kwargs['name'],
            products_of(node, self._values),
            *result,
        )
        if not self._begins:
            step.keep(self._frame)
        self._rows[node] = self._add_rows(step)

    def _result(
        self, node: fx.Node, value: Tensor, size: Sequence[int] | None = None
    ) -> tuple[int, Tensor, bool]:
        """Make what a :class:`.steps.RowStep` needs for its result.

        Args:
            node: Node that it is for.
            value: Its tokens (P, C) in the recorded frame.
            size: P and C, where there is no such frame.
        """
        positions, channels = size or value.shape
        shape = 1, channels, 1, positions
        for user in node.users:
            if user in self._sites and self._is_linear(user):
                memory = self._state.slots[self._sites[user]].whole()
                fits = memory.input.shape
                if (
                    fits.numel()
                    == positions * channels
                    == (fits.numel() // fits[1] * channels)
                ):
                    shape = fits
        image = self._new_image(shape)
        if not self._begins:
            rows = image.permute(0, 2, 3, 1).view(positions, channels)
            rows.copy_(value)
        return self._new_number(), image, not self._begins

    def _add_rows(self, step: RowStep) -> Rows:
        # Steps that are added next look at its size.
        self._frame.put(step.target, step.result)
        self._steps.append(step)
        return Rows(step.target, True)

    def _view(self, rows: Rows, shape: Sequence[int]) -> int:
        """Number tokens as an image (N, C, H, W) of some size."""
        value = self._frame[rows.number]
        if rows.is_image and value.shape == shape:
            return rows.number
        images, channels, height, width = shape

        def view(value: Tensor) -> Tensor:
            if rows.is_image:
                value = value.permute(0, 2, 3, 1)
            value = value.reshape(images, height, width, channels)
            return value.permute(0, 3, 1, 2)

        return self._add_view(rows.number, self._new_number(), view)

    def _add_view(self, source: int, target: int, view: Any) -> int:
        self._frame.put(target, view(self._frame[source]))
        self._steps.append(ViewStep(source, target, view))
        return target

    def _show(self, node: fx.Node) -> None:
        """Let the value of a node be what its module would make."""
        known = node in self._shown or node in self._images
        if known or not self._origin(node):
            return
        self._shown.add(node)
        rows, number = self._rows.get(node), self._numbers[node]
        if rows is not None and rows.number == number:
            return
        shape, as_image = self._values[node].shape, self._is_image(node)
        rows = self._tokens(node, as_image)
        if as_image:
            images, channels, *size = shape
            shape = images, *size, channels

        def view(value: Tensor) -> Tensor:
            if rows.is_image:
                value = value.permute(0, 2, 3, 1)
            value = value.reshape(shape)
            return value.permute(0, 3, 1, 2) if as_image else value

        self._add_view(rows.number, number, view)

    def _is_image(self, node: fx.Node) -> bool:
        """Tell if tokens of a node lie in it as pixels do in an image."""
        places = self._places(node)
        if places.dim() != 4 or places.shape[1] == 1:
            return False
        steps = places.diff(dim=1)
        return bool(((steps == 1) | (steps == 0)).all())


class WindowStep(AttentionStep):
    """Computes attention in the windows of which a token changed.

    Args:
        source: Queries, keys and values, (W * N, 3 * C) of W windows.
        mask: Masks of w windows, (w * N, N), or None.
        windows: W.
        options: What :func:`.attention.attend` takes between the two.
        *others: What :class:`AttentionStep` takes.
    """

    def __init__(
        self,
        source: Rows,
        mask: Rows | None,
        windows: int,
        options: Sequence[Any],
        *others: Any,
    ) -> None:
        super().__init__(*others)
        self._source = source
        self._mask = mask
        self._windows = windows
        self._options = options

    def change(self, frame: FrameValues) -> Tensor | bool:
        """Tell which tokens of the result change: those of whole windows."""
        if self._mask is not None and self._mask.change(frame) is not False:
            return True
        change = self._source.change(frame)
        if isinstance(change, bool):
            return change
        change = change.view(self._windows, -1)
        return change.any(1, keepdim=True).expand_as(change).flatten()

    def compute(self, frame: FrameValues, places: Tensor | None) -> None:
        """Compute windows."""
        qkv = self._source.read(frame).unflatten(0, (self._windows, -1))
        tokens, mask = qkv.shape[1], None
        if self._mask is not None:
            mask = self._mask.read(frame).unflatten(0, (-1, tokens))
        if places is not None:
            windows = places[::tokens] // tokens
            qkv, mask = qkv[windows], masks_of(mask, windows)
        self.executed = window_macs(qkv)
        done = attend(qkv, *self._options, mask).flatten(0, 1)
        if places is None:
            self.rows.copy_(done)
        else:
            self.rows.index_copy_(0, places, done)


class SequenceStep(AttentionStep):
    """Computes attention over all tokens, where they changed.

    Args:
        sources: Queries (N * L, C), keys and values (N * S, C).
        samples: N.
        num_heads: Number of heads.
        mask: See :class:`.kept_attention.AttentionInputs`.
        scale: The same.
        *others: What :class:`AttentionStep` takes.
    """

    def __init__(
        self,
        sources: Sequence[Rows],
        samples: int,
        num_heads: int,
        mask: Tensor | None,
        scale: float | None,
        *others: Any,
    ) -> None:
        super().__init__(*others)
        self._sources = sources
        self._samples = samples
        self._options = num_heads, mask, scale
        self._kept: KeptAttention | None = None
        self._changes: tuple[Tensor, Tensor] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that are kept beside the result."""
        return 0 if self._kept is None else self._kept.nbytes

    def run(self, frame: FrameValues, always: bool) -> None:
        """Bring the result up to date."""
        self._changes = None
        super().run(frame, always)

    def change(self, frame: FrameValues) -> Tensor | bool:
        """Tell which tokens of the result change."""
        changes, maps = [s.change(frame) for s in self._sources], []
        if all(change is False for change in changes):
            return False
        for source, change in zip(self._sources, changes, strict=True):
            if isinstance(change, bool):
                size = len(source.read(frame))
                change = torch.full((size,), change)
            maps.append(change.view(self._samples, -1))
        queries, keys = maps[0], maps[1] | maps[2]
        self._changes = queries, keys
        return (queries | keys.any(1, keepdim=True)).flatten()

    def compute(self, frame: FrameValues, places: Tensor | None) -> None:
        """Compute what changed, see :class:`.KeptAttention`."""
        self.keep(frame)
        done = self._kept.output.transpose(1, 2).flatten(2).flatten(0, 1)
        if places is None:
            self.rows.copy_(done)
        else:
            self.rows.index_copy_(0, places, done[places])

    def keep(self, frame: FrameValues) -> None:
        """Compute what changed, or all, and keep it for the next frame."""
        tokens = [
            source.read(frame).unflatten(0, (self._samples, -1))
            for source in self._sources
        ]
        inputs = AttentionInputs.of_tokens(tokens, *self._options)
        changes, kept = self._changes, self._kept
        if changes is None:
            kept = None
            changes = tuple(
                torch.ones(x.shape[:2], dtype=torch.bool) for x in tokens[:2]
            )
        self._kept = KeptAttention.of(kept, inputs, changes, results_of, True)
        self.executed = self._kept.macs


def _distinct(origins: Tensor) -> Tensor:
    """List the different numbers of each row, (P, K); -1 for none.

    Args:
        origins: (P,), or (P, C).
    """
    if origins.dim() == 1:
        return origins[:, None]
    ordered = origins.sort(1).values
    fresh = ordered.diff(dim=1, prepend=ordered[:, :1] - 1) != 0
    place = fresh.cumsum(1) - 1
    found = torch.full((len(ordered), int(place.max()) + 1), -1)
    return found.scatter_(1, place, ordered)

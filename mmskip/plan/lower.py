"""The lowering of a graph, with the values of a frame, to steps.

The nodes of a traced graph that depend on a frame are lowered: to a step of
the library where it has one (Skip-Convolutions, sums, joins, max pooling,
means), to one that torch takes where it has none, or into the step of another
node that absorbs them.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from mmskip.core.counting import may_do_macs
from mmskip.skip_conv import HeldMemory, StreamState
from mmskip.skip_conv.state import CallSite

from .graph import apart, compute, find_constants
from .kinds import (
    Sum,
    affine,
    crop_of,
    find_sums,
    is_image,
    is_join,
    is_mean,
    is_pointwise,
    is_scaling,
    scaled,
    sigmoid_of,
    windows_of,
)
from .plan import Fixed, Plan, PlannedConv, Slot, copy_slots
from .record import selects, tensors_read
from .steps import FrameValues, NativeSteps, PointStep, Step, WholeStep


class NotPlannedError(Exception):
    """Says why a frame cannot be continued by a plan."""


class NodeCall:
    """Computes a node of a graph from the values of its inputs.

    It keeps the node and the constants that it reads, and nothing else of
    the frame in which the plan was made.

    Args:
        node: The node.
        module: The module whose graph it is of.
        inputs: The nodes whose values are given in each call.
        constants: Values of the other nodes that it reads.
    """

    def __init__(
        self,
        node: fx.Node,
        module: nn.Module,
        inputs: Sequence[fx.Node],
        constants: dict[fx.Node, Any],
    ) -> None:
        self._node = node
        self._module = module
        self._inputs = inputs
        self._constants = constants

    def __call__(self, values: Sequence[Any]) -> Any:
        """Compute the node."""
        given = dict(zip(self._inputs, values, strict=True))
        given.update(self._constants)
        return compute(self._node, self._module, given.__getitem__)


class Planner:
    """Gives each node of a graph a step, or a place in that of another.

    Args:
        graph: Graph of a module.
        module: The module.
        values: Values of the nodes, in the last frame.
        sites: Call sites of its Skip-Convolutions.
        state: State of the stream.
        dtype: Type in which images and kernels are stored, float32 or
            bfloat16. It is float32 if a Skip-Convolution keeps running sums.
        begins: True if the frame is still to come: nothing is in the values.
    """

    def __init__(
        self,
        graph: fx.Graph,
        module: nn.Module,
        values: dict[fx.Node, Any],
        sites: dict[fx.Node, CallSite],
        state: StreamState,
        dtype: torch.dtype = torch.float32,
        begins: bool = False,
    ) -> None:
        #: Numbers of images of that type, and of their copies by others.
        self._stored: dict[int, int] = {}
        self._graph = graph
        self._module = module
        self._values = values
        self._sites = sites
        self._state = state
        self._dtype = self._storage(dtype)
        self._constants = find_constants(graph)
        self._numbers = {node: i for i, node in enumerate(graph.nodes)}
        # Behind the nodes: inputs, halves of pools, copies of another type.
        size = 3 * len(self._numbers)
        self._frame = FrameValues([values[node] for node in graph.nodes], size)
        self._begins = begins
        self._sums, self._absorbed = self._find_sums()
        #: Activations behind convolutions, which finish with them.
        self._finished = self._find_finished()
        for node in self._constants:
            self._frame.mark(self._numbers[node], False)
        #: Nodes without a step.
        self._idle = {
            *self._absorbed,
            *self._constants,
            *self._finished.values(),
        }
        self._steps: list[Step] = []
        self._convs: list[PlannedConv] = []
        self._norms: list[Tensor] = []
        self._num_native = 0
        self._num_hidden = 0
        self._nbytes = 0

    def _storage(self, dtype: torch.dtype) -> torch.dtype:
        """Choose the type in which images are stored, if one is asked for."""
        calls = map(self._state.prepared, self._sites.values())
        if all(c and c.layer.is_computed_anew() for c in calls):
            return dtype
        return torch.float32

    def _find_sums(self) -> tuple[dict[fx.Node, Sum], set[fx.Node]]:
        return find_sums(self._graph, self._module, self._values)

    def plan(self, key: Any) -> Plan:
        """Make the steps of the next frames.

        Args:
            key: Key of the arguments that the plan is for.

        Raises:
            NotPlannedError: A layer is not prepared for a next frame, a
                weight keeps no version, or a size depends on values.
        """
        with apart():
            return self._plan(key)

    def _check(self, read: list[tuple[dict[str, Any], str, Tensor]]) -> None:
        for node, site in self._sites.items():
            layer = self._module.get_submodule(node.target)
            if not layer.is_prepared(self._state.prepared(site)):
                raise NotPlannedError(
                    f'{site[0]} does not run on the native backend'
                )
        for _, name, tensor in read:
            if tensor.is_inference():
                raise NotPlannedError(
                    f'a change of {name} could not be noticed, because it '
                    'was made in inference mode'
                )
        for node in self._graph.nodes:
            if selects(node, self._values):
                raise NotPlannedError(
                    f'the size of {node.name} depends on values'
                )

    def _plan(self, key: Any) -> Plan:
        read = tensors_read(self._graph, self._module)
        self._check(read)
        for *_, tensor in read:
            self._frame.native.watch(tensor)
        inputs = []
        for node, number in self._numbers.items():
            if node.op == 'placeholder':
                inputs.append(self._add_input(node, number))
            elif node in self._sites:
                self._add_conv(node)
            elif node in self._idle or node.op == 'output':
                continue
            elif node in self._sums:
                found = self._sums[node]
                terms = [self._source(term) for term in found.terms]
                self._add_sum(terms, node, found)
            else:
                self._add_other(node)
        for node in self._useless():
            self._frame.drop(self._numbers[node])
        return Plan(
            key,
            self._steps,
            self._convs,
            self._fixed(read),
            self._frame,
            inputs,
            self._slots(),
            self._nbytes,
        )

    def _useless(self) -> Iterable[fx.Node]:
        """End the planning; returns nodes whose values nobody reads."""
        return *self._absorbed, *self._finished

    def _fixed(self, read: list[tuple[dict[str, Any], str, Tensor]]) -> Fixed:
        """Note what the plan takes for granted."""
        batch = next(
            len(self._values[node.args[0]])
            for node in self._graph.nodes
            if node.op == 'call_module'
            and may_do_macs(self._module.get_submodule(node.target))
        )
        places = [(place, name) for place, name, _ in read]
        return Fixed(places, self._norms, batch)

    @property
    def dtype(self) -> torch.dtype:
        """Type in which images are stored: float32 where some are sums."""
        return self._dtype

    def result(self) -> Any:
        """Give the result of the recorded frame, before it is planned.

        It is in tensors of its own.
        """
        return copy_slots(self._slots(), self._frame.own)

    def _slots(self) -> Any:
        output = next(reversed(self._graph.nodes))
        return fx.map_arg(output.args[0], lambda n: Slot(self._numbers[n]))

    def _add_input(self, node: fx.Node, number: int) -> int:
        """Find a place for the tensor of a frame.

        A Skip-Convolution compares its input itself. For others there is a
        copy, so that it is known where it changed.
        """
        others = [n for n in node.users if n not in self._sites]
        is_compared = self._dtype == torch.float32 and (
            self._constants.issuperset(others)
        )
        if not is_image(self._values[node]) or is_compared:
            return number
        source = self._new_number()
        self._add_follow(source, number, self._values[node])
        return source

    def _add_follow(self, source: int, target: int, image: Tensor) -> None:
        """Let a stored copy follow an image, to know where it changes."""
        copy = self._fill(self._new_image(image.shape), image)
        self._frame.native.add_follow(source, target, copy)
        self._store(target, copy)

    def _store(self, number: int, image: Tensor) -> None:
        """Note what a native step makes."""
        self._frame.put(number, image)
        self._stored[number] = number
        self._native_step()

    def _source(self, node: fx.Node) -> int:
        """Number an image as native steps read it: in the plan's type."""
        number = self._numbers[node]
        if self._dtype == torch.float32:
            return number
        if number not in self._stored:
            copy = self._new_number()
            self._add_follow(number, copy, self._values[node])
            self._stored[number] = copy
        return self._stored[number]

    def _new_number(self) -> int:
        """Number a value that no node knows."""
        self._num_hidden += 1
        return len(self._numbers) + self._num_hidden - 1

    def _find_finished(self) -> dict[fx.Node, fx.Node]:
        """Find activations that are all that reads a convolution.

        They may be one module that is called in many places, which
        :func:`mmskip.fold` leaves alone.
        """
        finished = {}
        for node, found in self._sums.items():
            conv = found.terms[0]
            if (
                len(found.terms) == 1
                and found.norm is None
                and found.factor is None
                and conv in self._sites
                and len(conv.users) == 1
                and self._values[conv].shape == self._values[node].shape
                and self._module.get_submodule(conv.target).activation is None
                and self._computes_anew(conv)
            ):
                finished[conv] = node
        return finished

    def _computes_anew(self, conv: fx.Node) -> bool:
        call = self._state.prepared(self._sites[conv])
        return call is not None and call.layer.is_computed_anew()

    def _add_conv(self, node: fx.Node) -> None:
        source = self._source(node.args[0])
        last = self._finished.get(node, node)
        value = self._values[last]
        self._add_site(node, source, self._numbers[last], value)

    def _add_site(
        self, node: fx.Node, source: int, target: int, value: Tensor
    ) -> None:
        """Add a Skip-Convolution.

        Args:
            node: Its call.
            source: Number of the image that it reads.
            target: Number of its result, or that of the activation behind.
            value: The result in the recorded frame.
        """
        layer = self._module.get_submodule(node.target)
        site = self._sites[node]
        memory = self._state.slots[site]
        mask = torch.ones_like(memory.output[:, :1], dtype=torch.bool)
        mask = mask.contiguous()
        if not self._begins:
            mask.copy_(self._state.last_mask(site))
        self._state.note(site, mask)
        call = self._state.prepared(site)
        native, result = self._frame.native, None
        anew = self._computes_anew(node)
        if anew or layer.activation is not None:
            result = self._fill(self._new_image(memory.output.shape), value)
        if anew:
            memory = self._add_anew(node, source, target, mask, result)
        else:
            native.add_conv(source, target, call.site, mask, result)
        self._convs.append(
            PlannedConv(
                layer,
                site,
                call,
                memory,
                source,
                mask,
                layer.frame_macs(self._frame[source].shape, mask),
            )
        )
        self._store(target, memory.output if result is None else result)
        self._steps[-1].names[-1] = site[0]

    def _add_anew(
        self,
        node: fx.Node,
        source: int,
        target: int,
        mask: Tensor,
        result: Tensor,
    ) -> HeldMemory:
        """Add a layer whose outputs are computed anew, see :meth:`_add_site`.

        Returns:
            What stands for the memory that the plan takes over.
        """
        layer = self._module.get_submodule(node.target)
        site, native = self._sites[node], self._frame.native
        call, memory = self._state.prepared(site), self._state.slots[site]
        activation, step, zero = None, None, 0
        if node in self._finished:
            activation = self._sums[self._finished[node]].activation
        if layer.input_grid and self._dtype == torch.bfloat16:
            step, zero = layer.input_grid
        native.add_planned_conv(
            source,
            target,
            call.layer,
            call.memory,
            mask,
            result,
            activation,
            step,
            zero,
        )
        images = partial(native.remembered, target)
        held = HeldMemory(images, memory, native.num_bytes(target))
        self._state.restore(site, held, None)
        call.release()
        return held

    def _add_sum(self, terms: list[int], node: fx.Node, found: Sum) -> None:
        result, target = self._new_result(node), self._numbers[node]
        scale = shift = None
        if found.norm is not None:
            norm = self._module.get_submodule(found.norm)
            scale, shift = affine(norm)
            self._norms += [*norm.parameters(), *norm.buffers()]
        if found.factor is not None:
            number = self._values[found.factor].flatten()
            scale = number.expand(result.shape[1]).contiguous()
            shift = torch.zeros_like(scale)
        self._frame.native.add_sum(
            terms, target, result, scale, shift, found.activation
        )
        self._store(target, result)

    def _add_join(self, sources: list[int], node: fx.Node) -> None:
        result, target = self._new_result(node), self._numbers[node]
        self._frame.native.add_join(sources, target, result)
        self._store(target, result)

    def _add_scale(self, node: fx.Node) -> None:
        result, target = self._new_result(node), self._numbers[node]
        image, factor = map(self._source, scaled(node, self._values))
        self._frame.native.add_scale(image, factor, target, result)
        self._store(target, result)

    def _add_factor(self, source: int, node: fx.Node, is_hard: bool) -> None:
        result, target = self._new_result(node), self._numbers[node]
        self._frame.native.add_factor(source, target, result, is_hard)
        self._store(target, result)

    def _add_crop(self, node: fx.Node) -> bool:
        """Add a view of an image that stays where it is; False for others."""
        crop = crop_of(node, self._values)
        if crop is None or self._numbers[node.args[0]] not in self._stored:
            return False
        source, target = self._source(node.args[0]), self._numbers[node]
        rows, columns = crop
        self._frame.native.add_crop(source, target, rows, columns)
        part = self._frame[source][..., slice(*rows), slice(*columns)]
        self._store(target, part)
        return True

    def _add_pool(
        self, source: int, node: fx.Node, windows: list[list[int]]
    ) -> None:
        """Add maxima in rows, and of those in columns: fewer to compare."""
        rows = self._frame[source].shape[:3]
        between = self._new_image((*rows, self._values[node].shape[3]))
        number = self._new_number()
        steps = [
            (1, source, number, between),
            (0, number, self._numbers[node], self._new_result(node)),
        ]
        for axis, begin, end, result in steps:
            along = [[1, 1], [1, 1], [0, 0]]
            for values, window in zip(along, windows, strict=True):
                values[axis] = window[axis]
            self._frame.native.add_pool(begin, end, result, *along)
            self._store(end, result)

    def _add_mean(self, source: int, node: fx.Node) -> None:
        result, target = self._new_result(node), self._numbers[node]
        self._frame.native.add_mean(source, target, result)
        if not self._begins:
            # It keeps the sum of each row, first of the recorded frame.
            self._frame.native.run(self._num_native, self._num_native + 1)
        self._store(target, result)

    def _fill(self, image: Tensor, value: Tensor) -> Tensor:
        """Copy a value of the recorded frame, if there is one."""
        return image if self._begins else image.copy_(value)

    def _new_result(self, node: fx.Node) -> Tensor:
        return self._new_image(self._values[node].shape)

    def _new_image(self, shape: Sequence[int]) -> Tensor:
        image = torch.empty(
            tuple(shape), dtype=self._dtype, memory_format=torch.channels_last
        )
        self._nbytes += image.nbytes
        return image

    def _add_points(self, inputs: Sequence[fx.Node], node: fx.Node) -> None:
        function = self._call(node, inputs)
        sources = [self._numbers[n] for n in inputs]
        target = self._numbers[node]
        result = self._fill(self._new_result(node), self._values[node])
        # Steps that are added next look at its type.
        self._frame.put(target, result)
        self._stored[target] = target
        self._steps.append(PointStep(function, sources, target, result))

    def _native_step(self) -> None:
        if not self._steps or not isinstance(self._steps[-1], NativeSteps):
            self._steps.append(NativeSteps(self._num_native))
        self._steps[-1].names.append('')
        self._num_native += 1

    def _add_other(self, node: fx.Node) -> None:
        inputs = [n for n in node.all_input_nodes if n not in self._constants]
        if is_mean(node, self._module, self._values):
            self._add_mean(self._source(inputs[0]), node)
            return
        is_hard = sigmoid_of(node, inputs, self._module, self._values)
        if is_hard is not None:
            self._add_factor(self._source(inputs[0]), node, is_hard)
            return
        windows = windows_of(node, inputs, self._module, self._values)
        if windows is not None:
            self._add_pool(self._source(inputs[0]), node, windows)
        elif is_join(node, self._values):
            self._add_join([self._source(n) for n in node.args[0]], node)
        elif is_scaling(node, self._values):
            self._add_scale(node)
        elif is_pointwise(node, inputs, self._module, self._values):
            self._add_points(inputs, node)
        elif not self._add_crop(node):
            self._add_whole(node, inputs)

    def _call(self, node: fx.Node, inputs: Sequence[fx.Node]) -> NodeCall:
        """Make a function of the values of a node's inputs."""
        fixed = {
            n: self._values[n]
            for n in node.all_input_nodes
            if n in self._constants
        }
        return NodeCall(node, self._module, inputs, fixed)

    def _add_whole(self, node: fx.Node, inputs: Sequence[fx.Node]) -> None:
        """Add a step that computes a node whole, if an input changed."""
        sources = [self._numbers[n] for n in inputs]
        function = self._call(node, inputs)
        self._steps.append(WholeStep(function, sources, self._numbers[node]))

"""From a graph, and the values of one frame, to the steps of the next."""

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from .change_graph import find_constants
from .change_plan import Plan, PlannedConv, Slot, copy_slots
from .change_record import compute, selects, tensors_read
from .change_steps import Board, NativeSteps, PointStep, Step, WholeStep
from .change_sums import (
    Sum,
    affine,
    are_alike,
    find_sums,
    is_anywhere,
    is_image,
    is_join,
)
from .state import CallSite, StreamState

#: What takes each position of an image for itself, and is not a sum.
_POINT_MODULES = (
    nn.BatchNorm2d,
    nn.GELU,
    nn.Hardsigmoid,
    nn.Hardswish,
    nn.LeakyReLU,
    nn.ReLU,
    nn.ReLU6,
    nn.SiLU,
    nn.Sigmoid,
    nn.Tanh,
)
_POINT_FUNCTIONS = {
    'mul',
    'relu',
    'sigmoid',
    'tanh',
    F.gelu,
    F.hardsigmoid,
    F.hardswish,
    F.leaky_relu,
    F.relu,
    F.relu6,
    F.silu,
    operator.add,
    operator.mul,
    operator.sub,
    torch.add,
    torch.mul,
    torch.relu,
    torch.sigmoid,
    torch.tanh,
}


class Planner:
    """Gives each node of a graph a step, or a place in that of another.

    Args:
        graph: Of a part of a model.
        module: The part.
        values: Of the nodes, in the last frame.
        sites: Where its Skip-Convolutions have their memory.
        state: Of the stream.
    """

    def __init__(
        self,
        graph: fx.Graph,
        module: nn.Module,
        values: dict[fx.Node, Any],
        sites: dict[fx.Node, CallSite],
        state: StreamState,
    ) -> None:
        self._graph = graph
        self._module = module
        self._values = values
        self._sites = sites
        self._state = state
        self._numbers = {node: i for i, node in enumerate(graph.nodes)}
        # Behind the nodes: outputs to which an activation is applied, inputs.
        size = 2 * len(self._numbers)
        self._board = Board([values[node] for node in graph.nodes], size)
        self._result = copy_slots(self._slots(), self._board.own)
        self._sums, self._absorbed = find_sums(graph, module, values)
        self._constants = find_constants(graph)
        for node in self._constants:
            self._board.mark(self._numbers[node], False)
        #: Nodes without a step.
        self._idle = {*self._absorbed, *self._constants}
        self._steps: list[Step] = []
        self._convs: list[PlannedConv] = []
        self._num_native = 0
        self._num_hidden = 0
        self._nbytes = 0

    def plan(self, key: Any) -> Plan | None:
        """The steps of the next frame; None if there can be none.

        A layer may not be prepared, something have a weight that keeps no
        version, or images have no fixed number.

        Args:
            key: Of the plan.
        """
        # What is made here is written to in later frames, of any mode.
        with torch.inference_mode(False), torch.no_grad():
            return self._plan(key)

    def _has_plan(
        self, read: list[tuple[dict[str, Any], str, Tensor]]
    ) -> bool:
        return (
            all(
                self._module.get_submodule(node.target).has_next(
                    self._state.prepared(site)
                )
                for node, site in self._sites.items()
            )
            and not any(tensor.is_inference() for *_, tensor in read)
            and not any(selects(n, self._values) for n in self._graph.nodes)
        )

    def _plan(self, key: Any) -> Plan | None:
        read = tensors_read(self._graph, self._module)
        if not self._has_plan(read):
            return None
        for *_, tensor in read:
            self._board.native.watch(tensor)
        inputs = []
        for node, number in self._numbers.items():
            if node.op == 'placeholder':
                inputs.append(self._add_input(node, number))
            elif node in self._sites:
                self._add_conv(node)
            elif node in self._sums:
                found = self._sums[node]
                terms = [self._numbers[term] for term in found.terms]
                self._add_sum(terms, node, found)
            elif node not in self._idle and node.op != 'output':
                self._add_other(node)
        for node in self._absorbed:
            self._board.drop(self._numbers[node])
        return Plan(
            key,
            self._steps,
            self._convs,
            read,
            self._board,
            inputs,
            self._slots(),
            self._nbytes,
        )

    def result(self) -> Any:
        """What the part returns in the recorded frame, in own tensors."""
        return self._result

    def _slots(self) -> Any:
        output = next(reversed(self._graph.nodes))
        return fx.map_arg(output.args[0], lambda n: Slot(self._numbers[n]))

    def _add_input(self, node: fx.Node, number: int) -> int:
        """Where the tensor of a frame goes.

        A Skip-Convolution compares its input itself. For others there is a
        copy, of which is known where it changed.
        """
        others = [n for n in node.users if n not in self._sites]
        if not is_image(self._values[node]) or self._constants.issuperset(
            others
        ):
            return number
        copy = self._values[node].clone(memory_format=torch.channels_last)
        self._nbytes += copy.nbytes
        source = self._new_number()
        self._board.native.add_follow(source, number, copy)
        self._board.put(number, copy)
        self._native_step()
        return source

    def _new_number(self) -> int:
        """Of a value that no node knows."""
        self._num_hidden += 1
        return len(self._numbers) + self._num_hidden - 1

    def _add_conv(self, node: fx.Node) -> None:
        layer = self._module.get_submodule(node.target)
        site = self._sites[node]
        output = self._state.slots[site].output
        source, target = self._numbers[node.args[0]], self._numbers[node]
        result = None
        if layer.activation is not None:
            result = self._new_result(node).copy_(self._values[node])
        mask = torch.ones_like(output[:, :1], dtype=torch.bool).contiguous()
        self._state.note(site, mask.copy_(self._state.last_mask(site)))
        call = self._state.prepared(site)
        add = self._board.native.add_conv
        add(source, target, mask, result, *call.arguments)
        self._board.put(target, output if result is None else result)
        self._board.native.watch(layer.weight)
        self._native_step(site[0])
        self._convs.append(PlannedConv(layer, site, source, mask))

    def _add_sum(self, terms: list[int], node: fx.Node, found: Sum) -> None:
        result, target = self._new_result(node), self._numbers[node]
        scale = shift = None
        if found.norm is not None:
            scale, shift = affine(self._module.get_submodule(found.norm))
        self._board.native.add_sum(
            terms, target, result, scale, shift, found.activation
        )
        self._board.put(target, result)
        self._native_step()

    def _add_join(self, sources: list[int], node: fx.Node) -> None:
        result, target = self._new_result(node), self._numbers[node]
        self._board.native.add_join(sources, target, result)
        self._board.put(target, result)
        self._native_step()

    def _new_result(self, node: fx.Node) -> Tensor:
        layout = torch.channels_last
        result = torch.empty_like(self._values[node], memory_format=layout)
        self._nbytes += result.nbytes
        return result

    def _add_points(
        self,
        function: Callable[[list[Tensor]], Tensor],
        sources: list[int],
        node: fx.Node,
    ) -> None:
        result, target = self._new_result(node), self._numbers[node]
        self._steps.append(PointStep(function, sources, target, result))

    def _native_step(self, name: str = '') -> None:
        if not self._steps or not isinstance(self._steps[-1], NativeSteps):
            self._steps.append(NativeSteps(self._num_native))
        self._steps[-1].names.append(name)
        self._num_native += 1

    def _add_other(self, node: fx.Node) -> None:
        inputs = [n for n in node.all_input_nodes if n not in self._constants]
        sources = [self._numbers[n] for n in inputs]
        fixed = {
            n: self._values[n]
            for n in node.all_input_nodes
            if n in self._constants
        }

        def function(values: list[Any]) -> Any:
            given = {**fixed, **dict(zip(inputs, values, strict=True))}
            return compute(node, self._module, given.__getitem__)

        if is_join(node, self._values):
            self._add_join([self._numbers[n] for n in node.args[0]], node)
        elif self._is_pointwise(node, inputs):
            self._add_points(function, sources, node)
        else:
            spread = self._spread(node, inputs)
            target = self._numbers[node]
            self._steps.append(WholeStep(function, sources, target, spread))

    def _is_pointwise(self, node: fx.Node, inputs: list[fx.Node]) -> bool:
        fixed = [
            self._values[n] for n in node.all_input_nodes if n not in inputs
        ]
        if not are_alike([node, *inputs], self._values) or not all(
            map(is_anywhere, fixed)
        ):
            return False
        if node.op == 'call_module':
            part = self._module.get_submodule(node.target)
            # Else it takes its statistics from all positions.
            known = getattr(part, 'track_running_stats', True)
            return isinstance(part, _POINT_MODULES) and known
        return node.target in _POINT_FUNCTIONS

    def _spread(
        self, node: fx.Node, inputs: list[fx.Node]
    ) -> Callable[[Tensor], Tensor] | None:
        """How changes spread in what is no Skip-Convolution."""
        if len(inputs) != 1 or not is_image(self._values[node]):
            return None
        if node.target is operator.getitem:
            index = fx.map_arg(node.args[1], self._values.__getitem__)
            crops = isinstance(index, tuple) and index[0] is Ellipsis
            if crops and [type(i) for i in index[1:]] == [slice, slice]:
                return lambda mask: mask[index].contiguous()
        if node.op != 'call_module':
            return None
        part = self._module.get_submodule(node.target)
        if type(part) is not nn.MaxPool2d or part.return_indices:
            return None
        return lambda mask: part(mask.float()) > 0

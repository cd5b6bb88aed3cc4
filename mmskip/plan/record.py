"""The record of a frame: computed node by node, to know all values.

The first frame of a plan runs so. Beside it is :class:`StreamForward`, a
forward that takes the place of a module's own inside a stream.
"""

import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree

from mmskip.native import library as native
from mmskip.skip_conv import SkipConvMixin, StreamBinding
from mmskip.skip_conv.attention import attend, attend_all, window_macs
from mmskip.skip_conv.kept_attention import AttentionInputs
from mmskip.skip_conv.state import CallSite

from .graph import activation_of, apart, compute, find_constants
from .kinds import is_image, is_mean

#: Modules that do the same in training mode; folding leaves new ones.
_MODELESS = (
    SkipConvMixin,
    nn.Identity,
    *(nn.ReLU, nn.SiLU, nn.ReLU6, nn.Hardswish, nn.LeakyReLU),
)


class StreamForward:
    """Runs a module its own way inside a stream, and else as it is.

    Args:
        module: Module that runs so.
    """

    #: ``mmskip.revert`` gives the module its own forward back.
    ends_with_revert = True

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.layers = skip_convs(module)
        self._graphs: dict[Any, Any] = {}
        gates = {part for layer in self.layers for part in layer.modules()}
        self._moded = [
            part
            for part in module.modules()
            if part not in gates and not isinstance(part, _MODELESS)
        ]

    def trains(self) -> bool:
        """Tell if a module is in training mode, and acts differently then."""
        # No Python loop: it is asked in every frame.
        return any(map(operator.attrgetter('training'), self._moded))

    def run_plain(self, *args: Any, **kwargs: Any) -> Any:
        """Run the forward of its class."""
        return type(self.module).forward(self.module, *args, **kwargs)

    def __getstate__(self) -> dict:
        return {**self.__dict__, '_graphs': {}}


def skip_convs(module: nn.Module) -> list[SkipConvMixin]:
    """List the Skip-Convolutions of a module, in order of definition."""
    return [m for m in module.modules() if isinstance(m, SkipConvMixin)]


def check_convertible(module: nn.Module) -> None:
    """Refuse a module that can have no forward of another kind.

    Args:
        module: Module with Skip-Convolutions.

    Raises:
        ValueError: Nothing is converted, or a forward is replaced already.
    """
    if not skip_convs(module):
        raise ValueError(
            f'expected a module with Skip-Convolutions, got '
            f'{type(module).__name__} without any; call mmskip.convert() '
            'on it first'
        )
    for name, part in module.named_modules():
        if 'forward' in part.__dict__:
            raise ValueError(
                f'the forward of {name or type(module).__name__} is replaced '
                'on the instance (by accelerate() already?); call '
                'mmskip.revert() first, or take another part'
            )


def tensors_of(tree: Any) -> list[Tensor]:
    """List the tensors in lists, tuples and dicts, in their order."""
    return [
        leaf for leaf in _pytree.tree_leaves(tree) if torch.is_tensor(leaf)
    ]


def record(
    graph: fx.Graph,
    module: nn.Module,
    inputs: Sequence[Tensor],
    sites: dict[fx.Node, CallSite],
    binding: StreamBinding,
) -> dict[fx.Node, Any]:
    """Compute a frame, node by node, Skip-Convolutions in their stream.

    SiLUs and means are rounded as in the frames to come, for which nothing
    has changed then.

    Args:
        graph: Graph of the module.
        module: The module.
        inputs: Tensors of the placeholders.
        sites: What :func:`sites_of` returned.
        binding: Binding of the stream.

    Returns:
        The values of all nodes, of the last one those that the module
        returns.
    """
    values: dict[fx.Node, Any] = {}
    remaining = iter(inputs)
    for node in graph.nodes:
        if node.op == 'placeholder':
            # Views of it are kept.
            values[node] = next(remaining).clone()
        elif node.op == 'output':
            values[node] = fx.map_arg(node.args[0], values.__getitem__)
        else:
            values[node] = compute(node, module, values.__getitem__)
        if node.target in (attend, attend_all):
            macs = products_of(node, values)
            binding.count_products(node.kwargs['name'], macs, macs)
        before = None
        if node in sites:
            part = module.get_submodule(node.target)
            if part.activation == 'silu':
                before = binding.state.slots[sites[node]].output
        if activation_of(node, module) == 'silu':
            before = values[node.args[0]]
        if is_image(before):
            values[node] = native.silu(before)
        if is_mean(node, module, values):
            values[node] = native.mean(values[node.args[0]])
    return values


def products_of(node: fx.Node, values: dict[fx.Node, Any]) -> int:
    """Count the MACs of all products of an attention.

    Args:
        node: Call of ``attend`` or ``attend_all``.
        values: Values of the nodes of the graph.
    """
    given = fx.map_arg(node.args, values.__getitem__)
    if node.target is attend:
        return window_macs(given[0])
    return AttentionInputs.of_tokens(given[:3], given[3]).products


def sites_of(
    graph: fx.Graph, module: nn.Module, binding: StreamBinding
) -> dict[fx.Node, CallSite]:
    """Name the call sites that the Skip-Convolutions of a graph will have.

    Args:
        graph: Graph of the module.
        module: The module, which is about to be called.
        binding: Binding of the stream.
    """
    sites: dict[fx.Node, CallSite] = {}
    calls: Counter[nn.Module] = Counter()
    for node in graph.nodes:
        if node.op == 'call_module':
            part = module.get_submodule(node.target)
            if isinstance(part, SkipConvMixin):
                number = binding.calls_of(part) + calls[part]
                sites[node] = binding.names[part], number
                calls[part] += 1
    return sites


class FrameShapes:
    """Knows the sizes of all values of a graph, once a frame was recorded.

    So that the first frame of another stream need not be.

    Args:
        graph: Graph of a module.
        values: Values of its nodes, in a frame.
    """

    def __init__(self, graph: fx.Graph, values: dict[fx.Node, Any]) -> None:
        constants = find_constants(graph)
        self._graph = graph
        self._shapes = {
            node: _pytree.tree_map_only(Tensor, _shape_of, values[node])
            for node in graph.nodes
            if node not in constants and node.op != 'output'
        }

    def values(self, module: nn.Module) -> dict[fx.Node, Any]:
        """Make values of these sizes, with nothing in them but constants.

        Args:
            module: Module of the graph.
        """
        values: dict[fx.Node, Any] = {}
        with apart():
            for node, shape in self._shapes.items():
                values[node] = _pytree.tree_map_only(
                    _TensorShape, _TensorShape.empty, shape
                )
        for node in self._graph.nodes:
            if node in self._shapes:
                continue
            if node.op == 'output':
                values[node] = fx.map_arg(node.args[0], values.__getitem__)
            else:
                values[node] = compute(node, module, values.__getitem__)
        return values


@dataclass(frozen=True)
class _TensorShape:
    """Describes a tensor; a tuple would be taken for several values."""

    size: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype

    def empty(self) -> Tensor:
        """Make such a tensor."""
        return torch.empty_strided(self.size, self.stride, dtype=self.dtype)


def _shape_of(tensor: Tensor) -> _TensorShape:
    return _TensorShape(tensor.shape, tensor.stride(), tensor.dtype)


def tensors_read(
    graph: fx.Graph, module: nn.Module
) -> list[tuple[dict[str, Any], str, Tensor]]:
    """List the weights that a graph reads beside Skip-Convolutions.

    Args:
        graph: Graph of the module.
        module: The module.

    Returns:
        For each the dict that keeps it, its name there, and its value now.
    """
    read = []
    for node in graph.nodes:
        if node.op == 'get_attr':
            path, _, name = node.target.rpartition('.')
            part, names = module.get_submodule(path), [name]
        elif node.op == 'call_module':
            part = module.get_submodule(node.target)
            names = [*part._parameters, *part._buffers]
            if isinstance(part, SkipConvMixin):
                continue
        else:
            continue
        for name in names:
            places = part._parameters, part._buffers, vars(part)
            place = next(place for place in places if name in place)
            if torch.is_tensor(place[name]):
                read.append((place, name, place[name]))
    return read


def selects(node: fx.Node, values: dict[fx.Node, Any]) -> bool:
    """Tell if the size of the value of a node depends on values.

    Args:
        node: Node of a graph.
        values: Values of the nodes of the graph.
    """
    if node.target is not operator.getitem:
        return False
    index = tensors_of(fx.map_arg(node.args[1], values.__getitem__))
    return any(i.dtype in (torch.bool, torch.uint8) for i in index)

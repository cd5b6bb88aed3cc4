"""Compute a frame node by node, to know the values of all nodes."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from mmskip.layers import SkipConvMixin
from mmskip.ops import native

from .bindings import StreamBinding
from .change_graph import activation_of
from .change_kinds import is_mean
from .change_sums import is_image
from .state import CallSite
from .stream_forward import tensors_of


def record(
    graph: fx.Graph,
    module: nn.Module,
    inputs: Sequence[Tensor],
    binding: StreamBinding,
) -> tuple[dict[fx.Node, Any], dict[fx.Node, CallSite]]:
    """Compute a frame, node by node, Skip-Convolutions in their stream.

    SiLUs and means are rounded as in the frames to come, for which nothing
    has changed then.

    Args:
        graph: Of the module.
        module: Whose parts are called.
        inputs: Tensors of the placeholders.
        binding: Of the stream.

    Returns:
        The values of all nodes, of the last one those that the module
        returns; where the Skip-Convolutions among them have their memory.
    """
    values: dict[fx.Node, Any] = {}
    sites: dict[fx.Node, CallSite] = {}
    remaining = iter(inputs)
    for node in graph.nodes:
        if node.op == 'placeholder':
            # What is a view of it is kept.
            values[node] = next(remaining).clone()
        elif node.op == 'output':
            values[node] = fx.map_arg(node.args[0], values.__getitem__)
        else:
            values[node] = compute(node, module, values.__getitem__)
        before = None
        if node.op == 'call_module':
            part = module.get_submodule(node.target)
            if isinstance(part, SkipConvMixin):
                sites[node] = binding.site_of(part)
                if part.activation == 'silu':
                    before = binding.state.slots[sites[node]].output
        if activation_of(node, module) == 'silu':
            before = values[node.args[0]]
        if is_image(before):
            values[node] = native.silu(before)
        if is_mean(node, module, values):
            values[node] = native.mean(values[node.args[0]])
    return values, sites


def compute(
    node: fx.Node, module: nn.Module, value_of: Callable[[fx.Node], Any]
) -> Any:
    """What a node returns; it never writes into its arguments."""
    if node.op == 'get_attr':
        return operator.attrgetter(node.target)(module)
    args = fx.map_arg(node.args, value_of)
    kwargs = fx.map_arg(node.kwargs, value_of)
    if node.op == 'call_function':
        return node.target(*args, **kwargs)
    if node.op == 'call_method':
        return getattr(args[0], node.target)(*args[1:], **kwargs)
    part = module.get_submodule(node.target)
    if getattr(part, 'inplace', False):
        args = args[0].clone(), *args[1:]
    return part(*args, **kwargs)


def tensors_read(
    graph: fx.Graph, module: nn.Module
) -> list[tuple[dict[str, Any], str, Tensor]]:
    """Parameters and buffers that a graph reads beside Skip-Convolutions.

    Args:
        graph: Of the module.
        module: Whose parts are called.

    Returns:
        Where each is kept, under which name, and what it is now.
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
    """Whether how much a node returns depends on values.

    Args:
        node: Of a graph.
        values: Of its nodes.
    """
    if node.target is not operator.getitem:
        return False
    index = tensors_of(fx.map_arg(node.args[1], values.__getitem__))
    return any(i.dtype in (torch.bool, torch.uint8) for i in index)

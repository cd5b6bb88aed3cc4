"""Compute a frame node by node, to know the values of all nodes."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, fx, nn

from mmskip.layers import SkipConvMixin

from .state import CallSite


def record(
    graph: fx.Graph,
    module: nn.Module,
    inputs: Sequence[Tensor],
    site_of: Callable[[SkipConvMixin], CallSite],
) -> tuple[dict[fx.Node, Any], dict[fx.Node, CallSite]]:
    """Compute a frame, node by node, Skip-Convolutions in their stream.

    Args:
        graph: Of the module.
        module: Whose parts are called.
        inputs: Tensors of the placeholders.
        site_of: Where the last call of a layer has its memory.

    Returns:
        The values of all nodes, of the last one those that the module
        returns; where the Skip-Convolutions among them have their memory.
    """
    values: dict[fx.Node, Any] = {}
    sites: dict[fx.Node, CallSite] = {}
    remaining = iter(inputs)
    for node in graph.nodes:
        if node.op == 'placeholder':
            values[node] = next(remaining)
        elif node.op == 'output':
            values[node] = fx.map_arg(node.args[0], values.__getitem__)
        else:
            values[node] = compute(node, module, values.__getitem__)
        if node.op == 'call_module':
            part = module.get_submodule(node.target)
            if isinstance(part, SkipConvMixin):
                sites[node] = site_of(part)
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

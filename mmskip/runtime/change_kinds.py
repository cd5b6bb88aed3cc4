"""What kind of step a node needs."""

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from .change_sums import are_alike, is_anywhere, is_image

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


def is_pointwise(
    node: fx.Node,
    inputs: list[fx.Node],
    module: nn.Module,
    values: dict[fx.Node, Any],
) -> bool:
    """Whether a node takes each position of its images for itself.

    Args:
        node: Of a graph of the module.
        inputs: That are no constants.
        module: Whose parts are called.
        values: Of the nodes, in a frame.
    """
    fixed = [values[n] for n in node.all_input_nodes if n not in inputs]
    if not are_alike([node, *inputs], values) or not all(
        map(is_anywhere, fixed)
    ):
        return False
    if node.op == 'call_module':
        part = module.get_submodule(node.target)
        # Else it takes its statistics from all positions.
        known = getattr(part, 'track_running_stats', True)
        return isinstance(part, _POINT_MODULES) and known
    return node.target in _POINT_FUNCTIONS


def is_mean(
    node: fx.Node, module: nn.Module, values: dict[fx.Node, Any]
) -> bool:
    """Whether a node is the mean over all positions of an image.

    Args:
        node: As of :func:`is_pointwise`, and so are the others.
        module: Of the graph.
        values: Of the nodes.
    """
    if node.op != 'call_module':
        return False
    part = module.get_submodule(node.target)
    return (
        type(part) is nn.AdaptiveAvgPool2d
        and part.output_size in (1, (1, 1))
        and is_image(values[node.args[0]])
    )


def windows_of(
    node: fx.Node,
    inputs: list[fx.Node],
    module: nn.Module,
    values: dict[fx.Node, Any],
) -> list[list[int]] | None:
    """Kernel, stride and padding of a max pooling that a board can compute.

    Args:
        node: As of :func:`is_pointwise`, and so are the others.
        inputs: Of the node.
        module: Of the graph.
        values: Of the nodes.
    """
    if node.op != 'call_module' or len(inputs) != 1:
        return None
    part = module.get_submodule(node.target)
    if (
        type(part) is not nn.MaxPool2d
        or part.return_indices
        or part.dilation not in (1, (1, 1))
        or not is_image(values[inputs[0]])
    ):
        return None
    windows = part.kernel_size, part.stride, part.padding
    return [[v, v] if isinstance(v, int) else list(v) for v in windows]


def spread_of(
    node: fx.Node, inputs: list[fx.Node], values: dict[fx.Node, Any]
) -> Callable[[Tensor], Tensor] | None:
    """How changes spread in what torch computes as a whole, a crop.

    Args:
        node: As of :func:`is_pointwise`, and so are the others.
        inputs: Of the node.
        values: Of the nodes.
    """
    if len(inputs) != 1 or not is_image(values[node]):
        return None
    if node.target is operator.getitem:
        index = fx.map_arg(node.args[1], values.__getitem__)
        crops = isinstance(index, tuple) and index[0] is Ellipsis
        if crops and [type(i) for i in index[1:]] == [slice, slice]:
            return lambda mask: mask[index].contiguous()
    return None

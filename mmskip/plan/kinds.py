"""Kinds of nodes: those that make a sum, and the step each other one needs.

A sum is a + b + c, enlarged images, and what is done to them: a batch norm
that was not folded, because a convolution is shared by several or comes after
it, and an activation are computed with the sum before them.
"""

import operator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from .graph import activation_of, find_constants

#: Most terms of a sum, as in csrc/kernels.h.
_MAX_TERMS = 8
_ADDS = {operator.add, torch.add, 'add'}
_MULTIPLIES = {operator.mul, torch.mul, 'mul'}
#: What channel attention makes of means; true of hard ones.
_SIGMOIDS = {
    nn.Sigmoid: False,
    torch.sigmoid: False,
    'sigmoid': False,
    nn.Hardsigmoid: True,
    F.hardsigmoid: True,
}
#: Modules that take each position of an image for itself, and are no sums.
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


class Sum(NamedTuple):
    """Describes the sum that one step computes.

    Attributes:
        terms: Nodes of images as large as the sum, or smaller.
        norm: Name of the batch norm that is applied to it, if one is.
        factor: Node of the number that it is multiplied by, if one is; there
            is no norm then.
        activation: Activation that is applied then: ``relu``, ``silu`` or
            None.
    """

    terms: list[fx.Node]
    norm: str | None
    activation: str | None
    factor: fx.Node | None = None


def find_sums(
    graph: fx.Graph, module: nn.Module, values: dict[fx.Node, Any]
) -> tuple[dict[fx.Node, Sum], set[fx.Node]]:
    """Find the sums of a graph, each as large as can be.

    The order in which terms are added stays, so that results are the same
    to the last bit.

    Args:
        graph: Graph of a module.
        module: The module.
        values: Values of the nodes, in a frame.

    Returns:
        Sums by the nodes they compute; the nodes that they absorb, which
        nobody else reads.
    """
    sums: dict[fx.Node, Sum] = {}
    absorbed: set[fx.Node] = set()
    constants = find_constants(graph)
    for node in reversed(graph.nodes):
        if node in absorbed or not is_image(values.get(node)):
            continue
        inner, between, norm = node, [], None
        activation = activation_of(node, module)
        if activation:
            inner = node.args[0]
        if is_norm(inner, module) and _is_own(inner, node):
            between.append(inner)
            norm = inner.target
            inner = inner.args[0]
        own = None
        if _is_own(inner, node):
            own = _terms(inner, module, values)
        if own is not None:
            between += [inner, *own[1]]
        terms = [inner] if own is None else own[0]
        if terms != [node] and _fit(terms, values[node], values):
            sums[node] = Sum(terms, norm, activation)
            absorbed.update(n for n in between if n is not node)
        elif terms == [node]:
            multiplied = _multiplied(node, constants, values)
            if multiplied is not None:
                sums[node] = multiplied
    return sums, absorbed


def _multiplied(
    node: fx.Node, constants: set[fx.Node], values: dict[fx.Node, Any]
) -> Sum | None:
    """Take an image that is multiplied by a constant for a sum of one."""
    if node.target not in _MULTIPLIES or node.kwargs:
        return None
    if [type(argument) for argument in node.args] != [fx.Node, fx.Node]:
        return None
    image, factor = scaled(node, values)
    number = values[factor]
    if (
        factor in constants
        and image not in constants
        and torch.is_tensor(number)
        and number.numel() == 1
        and number.dtype == torch.float32
        and _fit([image], values[node], values)
    ):
        return Sum([image], None, None, factor)
    return None


def is_norm(node: Any, module: nn.Module) -> bool:
    """Tell if a node is a batch norm with statistics of its own."""
    if not isinstance(node, fx.Node) or node.op != 'call_module':
        return False
    part = module.get_submodule(node.target)
    return (
        type(part) is nn.BatchNorm2d
        and part.running_mean is not None
        and part.running_mean.dtype == torch.float32
    )


def affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Compute the factor and the shift of each channel in a batch norm.

    They are rounded as torch rounds them.

    Args:
        norm: Batch norm in eval mode.

    Returns:
        Scale and shift (C) each.
    """
    zeros = norm.running_mean.new_zeros(1, norm.num_features, 1, 1)
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight
    return scale, norm(zeros).flatten()


def is_image(value: Any) -> bool:
    """Tell if a value is an image batch that the operators take."""
    return (
        torch.is_tensor(value)
        and value.dim() == 4
        and value.dtype == torch.float32
        and value.is_cpu
    )


def are_alike(nodes: list[fx.Node], values: dict[fx.Node, Any]) -> bool:
    """Tell if nodes are images of one size, but for channels."""
    images = [values[node] for node in nodes]
    return (
        all(is_image(image) for image in images)
        and len({(len(i), *i.shape[2:]) for i in images}) == 1
    )


def is_join(node: fx.Node, values: dict[fx.Node, Any]) -> bool:
    """Tell if a node puts images one behind the other in channels."""
    if node.target is not torch.cat or not node.args:
        return False
    dim = node.kwargs.get('dim', (*node.args, 0)[1])
    images = node.args[0]
    return (
        dim in (1, -3)
        and all(isinstance(image, fx.Node) for image in images)
        and are_alike([node, *images], values)
    )


def is_anywhere(value: Any) -> bool:
    """Tell if a constant is the same for all positions of all images."""
    if not torch.is_tensor(value) or value.numel() == 1:
        return True
    return value.dim() in (3, 4) and value.numel() == value.shape[-3]


def is_pointwise(
    node: fx.Node,
    inputs: list[fx.Node],
    module: nn.Module,
    values: dict[fx.Node, Any],
) -> bool:
    """Tell if a node takes each position of its images for itself.

    Args:
        node: Node of a graph of the module.
        inputs: Nodes that it reads and that are no constants.
        module: Module of the graph.
        values: Values of the nodes, in a frame.
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


def is_row_wise(
    node: fx.Node,
    inputs: list[fx.Node],
    module: nn.Module,
    values: dict[fx.Node, Any],
) -> bool:
    """Tell if a node takes each token of its inputs (..., C) for itself.

    Args:
        node: Node of a graph of the module.
        inputs: Nodes that it reads and that are no constants.
        module: Module of the graph.
        values: Values of the nodes, in a frame.
    """
    tensors = [values[n] for n in (node, *inputs)]
    if not inputs or not all(map(are_tokens, tensors)):
        return False
    if len({tensor.shape for tensor in tensors}) > 1:
        return False
    if node.op == 'call_module':
        part = module.get_submodule(node.target)
        if isinstance(part, nn.LayerNorm):
            return len(part.normalized_shape) == 1
        return isinstance(part, _POINT_MODULES) and not isinstance(
            part, nn.BatchNorm2d
        )
    return node.target in _POINT_FUNCTIONS


def are_tokens(value: Any) -> bool:
    """Tell if a value is a batch of tokens (..., C) that a plan takes."""
    return (
        torch.is_tensor(value)
        and value.dim() > 1
        and value.dtype == torch.float32
        and value.is_cpu
        and value.numel() > 0
    )


def is_scaling(node: fx.Node, values: dict[fx.Node, Any]) -> bool:
    """Tell if a node multiplies the channels of an image by one factor each.

    The factors (N, C, 1, 1) are those of channel attention; they may be the
    first argument or the second.

    Args:
        node: Node of a graph.
        values: Values of the nodes, in a frame.
    """
    if node.target not in _MULTIPLIES or len(node.args) != 2 or node.kwargs:
        return False
    if not all(isinstance(a, fx.Node) for a in node.args):
        return False
    image, factor = scaled(node, values)
    shapes = [values[n] for n in (image, factor, node)]
    if not all(map(is_image, shapes)):
        return False
    of_image, of_factor, of_result = (value.shape for value in shapes)
    return of_image == of_result and of_factor == (*of_image[:2], 1, 1)


def scaled(
    node: fx.Node, values: dict[fx.Node, Any]
) -> tuple[fx.Node, fx.Node]:
    """Tell the larger from the smaller of two arguments of a node."""
    one, other = node.args
    sizes = [getattr(values[n], 'numel', int)() for n in (one, other)]
    return (one, other) if sizes[0] >= sizes[1] else (other, one)


def is_mean(
    node: fx.Node, module: nn.Module, values: dict[fx.Node, Any]
) -> bool:
    """Tell if a node is the mean over all positions of an image.

    Args:
        node: Node of a graph of the module.
        module: Module of the graph.
        values: Values of the nodes, in a frame.
    """
    if node.op != 'call_module':
        return False
    part = module.get_submodule(node.target)
    return (
        type(part) is nn.AdaptiveAvgPool2d
        and part.output_size in (1, (1, 1))
        and is_image(values[node.args[0]])
    )


def sigmoid_of(
    node: fx.Node,
    inputs: list[fx.Node],
    module: nn.Module,
    values: dict[fx.Node, Any],
) -> bool | None:
    """Tell if a node is the hard sigmoid, or the other, of one pixel.

    Args:
        node: Node of a graph of the module.
        inputs: Nodes that it reads and that are no constants.
        module: Module of the graph.
        values: Values of the nodes, in a frame.

    Returns:
        True for the hard one, False for the other, None for other nodes.
    """
    target = node.target
    if node.op == 'call_module':
        target = type(module.get_submodule(node.target))
    is_small = is_image(values[node]) and values[node].shape[2:] == (1, 1)
    if len(inputs) != 1 or not is_small or not is_image(values[inputs[0]]):
        return None
    return _SIGMOIDS.get(target)


def windows_of(
    node: fx.Node,
    inputs: list[fx.Node],
    module: nn.Module,
    values: dict[fx.Node, Any],
) -> list[list[int]] | None:
    """Read kernel, stride and padding of a max pooling that a plan takes.

    Args:
        node: Node of a graph of the module.
        inputs: Nodes that it reads and that are no constants.
        module: Module of the graph.
        values: Values of the nodes, in a frame.
    """
    if len(inputs) != 1 or not is_image(values[inputs[0]]):
        return None
    if node.target is F.max_pool2d:
        args, given = fx.map_arg((node.args, node.kwargs), values.__getitem__)
        windows = args[1], given['stride'], given['padding']
        dilation, indices = given['dilation'], given['return_indices']
    elif node.op == 'call_module' and (
        type(part := module.get_submodule(node.target)) is nn.MaxPool2d
    ):
        windows = part.kernel_size, part.stride, part.padding
        dilation, indices = part.dilation, part.return_indices
    else:
        return None
    if indices or dilation not in (1, (1, 1)):
        return None
    return [[v, v] if isinstance(v, int) else list(v) for v in windows]


def crop_of(
    node: fx.Node, values: dict[fx.Node, Any]
) -> tuple[list[int], list[int]] | None:
    """Tell which rows and columns of an image a node takes, if it does that.

    Args:
        node: Node of a graph.
        values: Values of the nodes, in a frame.

    Returns:
        Begin, end and step of the rows, and of the columns; None for others.
    """
    if node.target is not operator.getitem or not is_image(values[node]):
        return None
    image = values[node.args[0]]
    index = fx.map_arg(node.args[1], values.__getitem__)
    if (
        not is_image(image)
        or values[node].numel() == 0
        or not isinstance(index, tuple)
        or [type(i) for i in index[1:]] != [slice, slice]
        or index[0] is not Ellipsis
    ):
        return None
    rows, columns = (
        list(part.indices(size))
        for part, size in zip(index[1:], image.shape[2:], strict=True)
    )
    return rows, columns


def _terms(
    node: fx.Node, module: nn.Module, values: dict[fx.Node, Any]
) -> tuple[list[fx.Node], list[fx.Node]] | None:
    """List terms of a sum or an enlarged image, and the nodes in between."""
    if _enlarges(node, module, values):
        return [node.args[0]], []
    if node.target not in _ADDS or len(node.args) != 2 or node.kwargs:
        return None
    terms: list[fx.Node] = []
    between: list[fx.Node] = []
    for term in node.args:
        if not isinstance(term, fx.Node):
            if term != 0:
                return None
            continue
        inner = None
        if (
            len(term.users) == 1
            and node.args.count(term) == 1
            and is_image(values[term])
            and values[term].shape == values[node].shape
        ):
            inner = _terms(term, module, values)
        if inner is None or (len(inner[0]) > 1 and len(terms) > 1):
            terms.append(term)  # sums of sums are another order
            continue
        # a + (b + c) is (b + c) + a.
        terms = inner[0] + terms if len(inner[0]) > 1 else terms + inner[0]
        between += [term, *inner[1]]
    return terms, between


def _is_own(inner: Any, node: fx.Node) -> bool:
    """Tell if only a node, or one that it absorbs, reads an inner one."""
    return inner is node or (
        isinstance(inner, fx.Node) and len(inner.users) == 1
    )


def _enlarges(
    node: fx.Node, module: nn.Module, values: dict[fx.Node, Any]
) -> bool:
    """Tell if a node repeats each pixel of an image, a power of two times."""
    if node.op == 'call_module':
        part = module.get_submodule(node.target)
        nearest = isinstance(part, nn.Upsample) and part.mode == 'nearest'
        scale = part.scale_factor if nearest else None
    else:
        nearest = (
            node.target is F.interpolate
            and node.kwargs.get('mode', 'nearest') == 'nearest'
        )
        scale = node.kwargs.get('scale_factor')
    if not nearest or not is_image(values[node.args[0]]):
        return False
    small, large = values[node.args[0]].shape, values[node].shape
    factor = large[2] // max(small[2], 1)
    scales = scale if isinstance(scale, (tuple, list)) else (scale,)
    return (
        factor & (factor - 1) == 0
        # 4.2 times 3 are 12, which are not 4 of each.
        and all(s is None or s == factor for s in scales)
        and small[2] * factor == large[2]
        and small[3] * factor == large[3]
    )


def _fit(
    terms: list[fx.Node], result: Tensor, values: dict[fx.Node, Any]
) -> bool:
    """Tell if the operator takes the terms."""
    if not 1 <= len(terms) <= _MAX_TERMS:
        return False
    for term in terms:
        image = values[term]
        if not is_image(image) or image.shape[:2] != result.shape[:2]:
            return False
        factor = result.shape[2] // max(image.shape[2], 1)
        if tuple(s * factor for s in image.shape[2:]) != result.shape[2:]:
            return False
    return True

"""Models of mmdet: their layers, and the weights of an export in them."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree

import mmskip
from mmskip.apis import UserError, init_model
from mmskip.apis.models import check_finite, keys_to_learn, some
from mmskip.core import Converted
from mmskip.experiments.benchmark import RawOutputs

from .export import Export
from .layers import ANOTHER, CONVOLUTIONS, NORMS, Dataflow, Layer

#: Heads whose outputs are known.
HEADS = ('YOLOXHead', 'RTMDetHead', 'RTMDetSepBNHead')
#: Attributes of a batch norm, in the order of those of an export's.
OF_A_NORM = ('weight', 'bias', 'running_mean', 'running_var')
# A kernel that levels share and that was folded into each: how far the
# kernels of levels may be from multiples of one.
PROPORTIONAL = 1e-4


def build_model(config: Path) -> nn.Module:
    """Build the plain model of a config, converted or not.

    Raises:
        UserError: It is no YOLOX and no RTMDet.
    """
    model = init_model(config)
    if any(isinstance(module, Converted) for module in model.modules()):
        mmskip.revert(model)
    head = type(getattr(model, 'bbox_head', None)).__name__
    if head not in HEADS:
        raise UserError(
            f'{config}: expected a model whose head is one of '
            f'{", ".join(HEADS)}, got {type(model).__name__} with {head}'
        )
    return model


def check_size(model: nn.Module, export: Export) -> None:
    """Refuse pictures that the strides of a model do not divide.

    Raises:
        UserError: Height or width is no multiple of the largest stride.
    """
    stride = max(max(s) for s in model.bbox_head.prior_generator.strides)
    size = export.shape[2:]
    if any(length % stride for length in size):
        raise UserError(
            f'{export.path}: expected pictures whose height and width are '
            f'multiples of {stride}, got {size}; export the model so'
        )


def trace(model: nn.Module, image: Tensor) -> list[Layer]:
    """List the layers of a model up to its heads, in order of execution."""
    program = torch.export.export(
        RawOutputs(model, is_model=True), (image,), strict=False
    )
    signature = program.graph_signature
    names = dict(signature.inputs_to_parameters)

    def module_of(node: fx.Node) -> tuple[str, nn.Module]:
        name = names[node.name].removeprefix('part.').rpartition('.')[0]
        return name, model.get_submodule(name)

    flow = Dataflow(signature.user_inputs[0])
    for node in program.graph.nodes:
        if node.op != 'call_function':
            continue
        kind = str(node.target)
        leaves = _pytree.tree_leaves((node.args, node.kwargs))
        reads = [leaf.name for leaf in leaves if isinstance(leaf, fx.Node)]
        before = flow.conv_before(reads[0]) if reads else None
        if kind in NORMS and before is not None:
            before.norm = module_of(node.args[1])[1]
        if kind in CONVOLUTIONS:
            name, conv = module_of(node.args[1])
            shape = tuple(conv.weight.shape)
            layer = Layer('conv', name, shape, conv=conv)
            flow.add_conv(layer, reads[0], node.name)
        else:
            flow.add(kind, reads, [node.name])
    return flow.up_to_heads()


def fill(pairs: Sequence[tuple[Layer, Layer]]) -> set[int]:
    """Put the weights of an export into a model.

    Args:
        pairs: Convolutions of the model and of the export.

    Returns:
        Identities of the parameters and buffers that were filled.

    Raises:
        UserError: A convolution is used in several places with weights that
            do not fit one kernel, or has a bias that the model's has not.
    """
    uses = defaultdict(list)
    for mine, theirs in pairs:
        uses[mine.conv].append((mine, theirs))
    filled = set()
    with torch.no_grad():
        for conv, layers in uses.items():
            kernel, factors = common_kernel(layers)
            conv.weight.copy_(kernel)
            if conv.bias is not None:
                conv.bias.zero_()
            for (mine, theirs), factor in zip(layers, factors, strict=True):
                _fill_behind(mine, theirs, factor)
                modules = filter(None, (conv, mine.norm))
                for module in modules:
                    filled.update(
                        map(id, module.state_dict(keep_vars=True).values())
                    )
    return filled


def common_kernel(
    uses: Sequence[tuple[Layer, Layer]],
) -> tuple[Tensor, Tensor]:
    """Find one kernel for all places that use it.

    Levels of RTMDet share kernels and have batch norms of their own. Folded,
    the kernels are multiples of one, channel by channel.

    Args:
        uses: Convolutions of the model, with one module, and of the export.

    Returns:
        The kernel, and by use and output channel what to multiply it by.
    """
    kernels = torch.stack([theirs.conv[0] for _, theirs in uses])
    rows = kernels.double().flatten(2)
    largest = rows.norm(dim=2).argmax(dim=0)
    base = rows[largest, torch.arange(rows.shape[1])]
    squares = (base * base).sum(1)
    factors = (rows * base).sum(2) / squares
    factors[:, squares == 0] = 1
    rest = (rows - factors[..., None] * base).abs().max()
    if rest > PROPORTIONAL * base.abs().max():
        raise UserError(
            f'expected kernels of {len(uses)} levels that are multiples of '
            f'one, since the model shares {uses[0][0].name}, got '
            f'{some(theirs.name for _, theirs in uses)}: {ANOTHER}'
        )
    return base.view(kernels.shape[1:]), factors


def _fill_behind(mine: Layer, theirs: Layer, factor: Tensor) -> None:
    """Put what follows a kernel into the batch norm, or else the bias."""
    _, bias = theirs.conv
    found, norm = theirs.norm, mine.norm
    bias = torch.zeros_like(factor) if bias is None else bias.double()
    if found is not None and norm is not None and (factor == 1).all():
        for name, value in zip(OF_A_NORM, found, strict=False):
            getattr(norm, name).copy_(value)
        norm.running_mean.sub_(bias)
        norm.running_var.add_(found.eps - norm.eps)
        return
    if found is not None:
        scale = found.weight / (found.running_var.double() + found.eps).sqrt()
        bias = (bias - found.running_mean) * scale + found.bias
        factor = factor * scale
    if norm is not None:
        norm.weight.copy_(factor)
        norm.bias.copy_(bias)
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)
        return
    mine.conv.weight.mul_(factor[:, None, None, None])
    if mine.conv.bias is not None:
        mine.conv.bias.copy_(bias)
    elif bias.any():
        raise UserError(
            f'expected no bias at {theirs.name}, as at {mine.name} of the '
            f'model, got one: {ANOTHER}'
        )


def check_filled(model: nn.Module, filled: set[int], path: Path) -> None:
    """Refuse a model that would keep random weights.

    Raises:
        UserError: It has weights beside convolutions and batch norms.
    """
    state = model.state_dict(keep_vars=True)
    left = [
        key for key in keys_to_learn(model) if id(state[key]) not in filled
    ]
    if left:
        raise UserError(
            f'{path}: expected weights for all of the model, got none for '
            f'{len(left)} of it ({some(left)}), which are no part of its '
            'convolutions and of the batch norms behind them'
        )
    check_finite(model, model.state_dict(), str(path))

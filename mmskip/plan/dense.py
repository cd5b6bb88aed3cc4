"""Layers that compute all of every frame, in the precision of the plan.

Those of a model that is not converted, and of a converted one those that are
not, such as the heads on boxes of two-stage detectors. Their weights are laid
out once (:mod:`mmskip.native.packed`); norms and activations were folded into
them. A layer in a lower precision takes and returns float32, wherever it is
called. Where the forward around it can be traced, a :class:`LowForward` runs
in its place, in which layers hand each other bfloat16 or bytes.
"""

import operator
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.utils import _pytree

from mmskip.core import CountedWhole, in_turns, list_reasons, samples_together
from mmskip.core.counting import read_apart
from mmskip.native import LowKernels, PackedKernels, is_exact_inference
from mmskip.native.library import round_to_bytes
from mmskip.skip_conv import SkipConvMixin
from mmskip.sof_net import StopOrForwardHead
from mmskip.va_red2 import DynamicConvMixin

from .fold import (
    PackedConv2d,
    PackedConvTranspose2d,
    PackedLinear,
    PlanarConv3d,
    fold_activations,
    is_flat,
)
from .graph import TraceError, activation_of, is_fresh, is_shape, trace
from .record import StreamForward, skip_convs

try:
    from mmskip.sof_net import list_stages
except ImportError:  # mmaction is optional
    list_stages = None
try:
    from mmcv.cnn import bricks
except ImportError:  # mmcv is optional: torch and mmengine suffice
    bricks = None

#: Most kinds of arguments that a part keeps graphs for.
MOST_GRAPHS = 8


#: Exact classes, as others may do more with their weights, and what packs
#: them.
_PACKED: dict[type, type] = {
    nn.Conv2d: PackedConv2d,
    nn.ConvTranspose2d: PackedConvTranspose2d,
    nn.Linear: PackedLinear,
}
if bricks is not None:
    _PACKED |= {
        bricks.Conv2d: PackedConv2d,
        bricks.ConvTranspose2d: PackedConvTranspose2d,
        bricks.Linear: PackedLinear,
    }
_LOW = (PackedConv2d, PackedConvTranspose2d, PackedLinear, PlanarConv3d)


class DenseReport:
    """Tells in which precision layers run that compute all of every frame.

    Attributes:
        layers: Precision of each layer that has one, by name.
        left: Reason why each other layer runs in float32.
        notes: What else was done.
        frames: For each part of the model, by name: how many times it ran
            from end to end in this precision, or layer by layer, by reason.
            It fills while frames run.
    """

    def __init__(self) -> None:
        self.layers: dict[str, str] = {}
        self.left: dict[str, str] = {}
        self.notes: list[str] = []
        self.frames: dict[str, Counter[str]] = {}

    def __str__(self) -> str:
        lines = list(self.notes)
        if self.layers or self.left:
            counts = Counter(self.layers.values())
            done = [f'{n} in {name}' for name, n in counts.most_common()]
            done.append(f'{len(self.left)} in float32')
            lines.append(f'layers that are not skipped: {", ".join(done)}')
            lines += list_reasons('in float32', self.left)
        for name, counts in self.frames.items():
            for what, number in counts.most_common():
                lines.append(
                    f'  {name or "(the whole model)"}: {number} {what}'
                )
        return '\n'.join(lines)


def low_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Give the layers that run in a lower precision without skipping.

    Args:
        model: Folded model in eval mode; nothing is packed yet.
    """
    refused = refused_layers(model)
    for name, layer in model.named_modules():
        if _is_layer(layer) and name not in refused:
            yield name, layer


def refused_layers(model: nn.Module) -> dict[str, str]:
    """Say why layers that are not skipped stay in float32, by name."""
    read = {reading.layer: reading.reader for reading in read_apart(model)}
    # Gates and policies decide as in float32, or other things are computed.
    whole = {
        part: outer
        for outer in model.modules()
        if _is_apart(outer)
        for part in outer.modules()
        if part is not outer
    }
    refused = {}
    for name, layer in model.named_modules():
        if not _is_layer(layer):
            continue
        why = _refusal(layer)
        if layer in whole:
            why = f'a part of {type(whole[layer]).__name__}'
        elif layer in read:
            why = f'{type(read[layer]).__name__} reads its weights'
        if why is not None:
            refused[name] = why
    return refused


def _is_layer(module: nn.Module) -> bool:
    kinds = (nn.modules.conv._ConvNd, nn.Linear)
    return isinstance(module, kinds) and not isinstance(module, SkipConvMixin)


def _refusal(layer: nn.Module) -> str | None:
    kind = type(layer)
    if 'forward' in vars(layer):
        return 'its forward is replaced'
    if isinstance(layer, PlanarConv3d) and not is_flat(layer):
        return 'it pads in time and in space'
    if layer.weight.dtype != torch.float32:
        return f'its weights are {layer.weight.dtype}'
    if kind not in _PACKED and kind is not PlanarConv3d:
        return f'{kind.__name__} has no kernels of a lower precision'
    if getattr(layer, 'padding_mode', 'zeros') != 'zeros':
        return f'padding_mode={layer.padding_mode!r}'
    if isinstance(getattr(layer, 'padding', 0), str):
        return f'padding={layer.padding!r}'
    return None


def run_densely(model: nn.Module) -> DenseReport:
    """Let the layers of a folded model compute densely and fast, in place.

    - Convolutions keep their kernels as oneDNN reads them fastest, see
      :class:`mmskip.native.PackedKernels`, beside the parameters.
    - Activations that read nothing else become a part of them.
    - Clips lie channels last, which 2-D convolutions along time and along
      space both read as they are.
    - The backbone of a recognizer runs a few samples at a time, see
      :func:`mmskip.core.in_turns`.
    - Policies of SoF-Net make one layer of two linear ones.

    Args:
        model: Model in eval mode.

    Returns:
        A report that says what was done; of a model that is not on the CPU or
        has Skip-Convolutions: nothing was.
    """
    report = DenseReport()
    if skip_convs(model) or not _is_on_cpu(model):
        return report
    names = [n for n, m in model.named_modules() if _pack(m)]
    taken, _ = fold_activations(model)
    report.notes.append(
        f'{len(names)} convolutions run on oneDNN, with kernels laid out '
        f'once; {len(taken)} of them with their activation'
    )
    _join_policies(model, report)
    _take_turns(model, report)
    return report


def pack_low(model: nn.Module, grids: Mapping[str, tuple]) -> DenseReport:
    """Give layers that are not skipped kernels of a lower precision, in place.

    Activations that read nothing else become a part of them.

    Args:
        model: Folded model in eval mode, on the CPU.
        grids: For those that multiply bytes, by name, step and zero of their
            inputs and what else is known. The others multiply in bfloat16.

    Returns:
        A report of all layers that are not skipped.
    """
    report = DenseReport()
    report.left = refused_layers(model)
    for name, layer in list(low_layers(model)):
        # Its error is of no use here.
        grid = tuple(grids[name][:2]) if name in grids else None
        if type(layer) in _PACKED:
            layer.__class__ = _PACKED[type(layer)]
        layer.packed = LowKernels(grid)
        report.layers[name] = 'bfloat16' if grid is None else 'int8'
    fold_activations(model)
    return report


def connect_low(model: nn.Module, report: DenseReport) -> None:
    """Let layers of a lower precision hand each other what they compute.

    Args:
        model: What :func:`pack_low` made.
        report: Its report, in which frames are counted.
    """
    # What is around a part, and runs from end to end, goes past its forward.
    for name, part in model.named_modules():
        inside = list(part.modules())
        if (
            'forward' not in vars(part)
            and not isinstance(part, (*_LOW, nn.ModuleList, nn.ModuleDict))
            and any(map(is_low, inside))
            and not any(map(_is_apart, inside))
        ):
            part.forward = LowForward(part, name, report)
    if not skip_convs(model):
        _join_policies(model, report)
        _take_turns(model, report)


def _is_on_cpu(model: nn.Module) -> bool:
    return all(parameter.is_cpu for parameter in model.parameters())


def _join_policies(model: nn.Module, report: DenseReport) -> None:
    policies = [m for m in model.modules() if isinstance(m, StopOrForwardHead)]
    for policy in policies:
        policy.join()
    if policies:
        report.notes.append(f'{len(policies)} policies make one layer of two')


def _take_turns(model: nn.Module, report: DenseReport) -> None:
    """Let the backbone of a recognizer run on a few samples at a time."""
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, nn.Module) or not hasattr(model, 'cls_head'):
        return
    forward = vars(backbone).get('forward')
    if forward is None or isinstance(forward, LowForward):
        backbone.forward = _InTurns(backbone, forward)
        report.notes.append('the backbone runs a few samples at a time')


def _pack(layer: nn.Module) -> bool:
    """Give a layer kernels of its own layout; returns if it takes them."""
    if 'forward' in vars(layer):
        return False
    if _PACKED.get(type(layer)) is PackedConv2d:
        if _refusal(layer) is not None:
            return False
        layer.__class__ = PackedConv2d
    elif not isinstance(layer, (DynamicConvMixin, PlanarConv3d)) or not (
        layer.weight.dim() == 4 or is_flat(layer)
    ):
        return False
    layer.packed = PackedKernels()
    if layer.weight.dim() == 5:
        layer.weight.data = layer.weight.data.contiguous(
            memory_format=torch.channels_last_3d
        )
    return True


class _InTurns:
    """Runs the forward of a backbone on a few samples at a time.

    Args:
        backbone: The backbone.
        forward: What runs in place of its own forward; None: nothing.
    """

    def __init__(
        self, backbone: nn.Module, forward: 'LowForward | None'
    ) -> None:
        self.backbone = backbone
        self.forward = forward
        self.treats_frames_alone = _treats_frames_alone(backbone)

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        run = self.forward or partial(
            type(self.backbone).forward, self.backbone
        )
        alone = x.dim() == 5 or self.treats_frames_alone
        if torch.is_grad_enabled() or not x.is_cpu or not alone:
            return run(x, *args, **kwargs)
        forward = partial(_with_first, run, args, kwargs)
        return in_turns(forward, x, samples_together(x.shape[1:]))


def _with_first(
    run: Callable[..., Any], args: tuple, kwargs: dict, x: Tensor
) -> Any:
    return run(x, *args, **kwargs)


def _treats_frames_alone(backbone: nn.Module) -> bool:
    """Tell if the frames of a batch do not mix in a backbone of images."""
    if list_stages is None or any(
        # What they did is told sample by sample, of whole batches.
        isinstance(module, DynamicConvMixin)
        for module in backbone.modules()
    ):
        return False
    try:
        list_stages(backbone)
    except (TypeError, ValueError):
        return False
    return True


class LowForward(StreamForward):
    """Runs a part of a model with bfloat16 and bytes between its layers.

    Its forward is traced at the first call of a kind. Operations that lose
    nothing there go on in the precision that they get, others get float32, and
    what is returned is float32. Other calls (of training, of exporters, under
    autocast, of a part with a hook inside) run its own forward, in which
    layers hand each other float32.

    Args:
        module: The part.
        name: Its name in the model.
        report: Report in which calls are counted.
    """

    def __init__(
        self, module: nn.Module, name: str, report: DenseReport
    ) -> None:
        super().__init__(module)
        self._name = name
        self._report = report
        inside = [
            part
            for part in module.modules()
            if part is not module and not _is_leaf(part)
        ]
        self._hooks = [part._forward_hooks for part in inside]
        self._hooks += [part._forward_pre_hooks for part in inside]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves, spec = _pytree.tree_flatten((args, kwargs))
        inputs = [leaf for leaf in leaves if torch.is_tensor(leaf)]
        # A tracer passes no tensors.
        if not inputs:
            return self.run_plain(*args, **kwargs)
        why = self._why_not(inputs)
        run = None
        if not why:
            run, why = self._look_up(args, kwargs, leaves, str(spec))
        if run is None:
            self._count(f'layer by layer: {why}')
            return self.run_plain(*args, **kwargs)
        self._count('from end to end')
        return run(*inputs)

    def _count(self, what: str) -> None:
        self._report.frames.setdefault(self._name, Counter())[what] += 1

    def _why_not(self, inputs: list[Tensor]) -> str:
        """Say why a call runs in float32 between layers; '' if it does not."""
        if (
            not is_exact_inference()
            or torch.jit.is_tracing()
            or torch.compiler.is_compiling()
            or self.trains()
        ):
            return 'gradients, autocast, training mode or an exporter'
        if any(self._hooks):
            return 'a hook inside'
        for x in inputs:
            if not x.is_cpu or not x.numel():
                return 'an input is empty, or not on the CPU'
            if x.is_floating_point() and x.dtype != torch.float32:
                return f'an input is {x.dtype}'
        return ''

    def _look_up(
        self, args: tuple, kwargs: dict, leaves: list, spec: str
    ) -> tuple[Callable[..., Any] | None, str]:
        """Find what runs a call of this kind, and else say why nothing."""
        key = (
            spec,
            *((x.dim(), x.dtype) if torch.is_tensor(x) else x for x in leaves),
        )
        try:
            known = self._graphs.get(key)
        except TypeError:
            known = 'an argument is no number'
        if known is None and len(self._graphs) >= MOST_GRAPHS:
            known = f'arguments of more than {MOST_GRAPHS} kinds'
        if known is None:
            try:
                graph = trace(self.module, args, kwargs, ranked=True)
                graph = _Lowering(graph, self.module).run()
                known = fx.GraphModule(self.module, graph).forward
            except TraceError as error:
                known = str(error)
            self._graphs[key] = known
        return (None, known) if isinstance(known, str) else (known, '')


def _is_leaf(part: nn.Module) -> bool:
    """Tell if a graph calls a module, and its hooks."""
    return not part._modules and (
        isinstance(part, _LOW)
        or type(part).__module__.startswith(('torch.nn', 'mmcv.cnn'))
    )


def is_low(module: nn.Module) -> bool:
    """Tell if a module is a layer of a lower precision that is not skipped."""
    return isinstance(getattr(module, 'packed', None), LowKernels)


def _is_apart(module: nn.Module) -> bool:
    """Tell if a module runs, or counts its MACs, in a way of its own."""
    return isinstance(module, (SkipConvMixin, CountedWhole))


#: Modules that lose nothing with bfloat16: files of ``torch.nn.modules``.
_EASY_MODULES = {
    f'torch.nn.modules.{name}'
    for name in (
        'activation',
        'dropout',
        'flatten',
        'padding',
        'pixelshuffle',
        'pooling',
        'upsampling',
    )
}
#: Functions of which the same holds, and methods of tensors.
_EASY_FUNCTIONS = {
    *(operator.add, operator.sub, operator.mul, operator.neg),
    *(operator.getitem, getattr),
    *(torch.add, torch.sub, torch.mul, torch.cat, torch.stack),
    *(torch.chunk, torch.split, torch.flatten, torch.reshape, torch.permute),
    *(torch.transpose, torch.relu, torch.sigmoid, torch.tanh, torch.mean),
    *(F.relu, F.relu6, F.silu, F.hardswish, F.hardsigmoid, F.leaky_relu),
    *(F.gelu, F.mish, F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d),
    *(F.interpolate, F.pad, F.dropout, F.pixel_shuffle),
}
_EASY_METHODS = {
    *('add', 'sub', 'mul', 'mean', 'relu', 'sigmoid', 'tanh', 'chunk'),
    *('split', 'flatten', 'reshape', 'view', 'permute', 'transpose'),
    *('contiguous', 'expand', 'unsqueeze', 'squeeze', 'clone', 'repeat'),
    *('expand_as', 'unflatten', 'size', 'dim', 'numel', 'ndimension'),
}
_SUMS = {operator.add, torch.add, 'add'}


def to_halves(x: Tensor) -> Tensor:
    """Round to bfloat16."""
    return x.to(torch.bfloat16)


def to_floats(x: Any) -> Any:
    """Turn bfloat16 into float32, also in tuples and lists; others stay."""
    if torch.is_tensor(x):
        return x.float() if x.dtype == torch.bfloat16 else x
    if isinstance(x, (tuple, list, dict)):
        return _pytree.tree_map_only(Tensor, to_floats, x)
    return x


class _Lowering:
    """Turns the graph of a part into one with bfloat16 and bytes in it.

    Args:
        graph: The graph; it is changed.
        module: The part.
    """

    def __init__(self, graph: fx.Graph, module: nn.Module) -> None:
        self._graph = graph
        self._module = module
        self._casts: dict[tuple, fx.Node] = {}

    def run(self) -> fx.Graph:
        """Change the graph and return it."""
        for node in list(self._graph.nodes):
            if isinstance(self._layer(node), PackedConv2d):
                node = self._add(node)
            if self._layer(node) is not None:
                self._activate(node)
        for node in list(self._graph.nodes):
            self._convert(node)
        for node in list(self._graph.nodes):
            if isinstance(self._layer(node), (PackedConv2d, PackedLinear)):
                self._store_bytes(node)
            if len(node.args) > 1 and self._layer(node) is not None:
                self._overwrite(node)
        self._graph.eliminate_dead_code(
            lambda n: n.op in ('placeholder', 'output', 'call_module')
        )
        return self._graph

    def _layer(self, node: fx.Node) -> nn.Module | None:
        """Give the layer of a lower precision that a node calls, if any."""
        if node.op != 'call_module':
            return None
        part = self._module.get_submodule(node.target)
        return part if is_low(part) else None

    def _add(self, node: fx.Node) -> fx.Node:
        """Let a convolution add the image that is added to its output."""
        if self._layer(node).activation is not None or len(node.users) != 1:
            return node
        (total,) = node.users
        if (
            total.target not in _SUMS
            or total.kwargs
            or len(total.args) != 2
            or not all(isinstance(a, fx.Node) for a in total.args)
        ):
            return node
        (other,) = {*total.args} - {node} or {None}
        if other is None:
            return node
        return self._merge(node, total, (*node.args, other), node.kwargs)

    def _activate(self, node: fx.Node) -> None:
        """Let a layer apply the activation that reads its output."""
        layer = self._layer(node)
        if (
            layer.activation is not None
            or len(node.users) != 1
            or isinstance(layer, PlanarConv3d)
        ):
            return
        (after,) = node.users
        name = activation_of(after, self._module)
        if name is not None and len(after.all_input_nodes) == 1:
            kwargs = {**node.kwargs, 'activation': name}
            self._merge(node, after, node.args, kwargs)

    def _merge(
        self, node: fx.Node, after: fx.Node, args: tuple, kwargs: dict
    ) -> fx.Node:
        """Put one call in the place of two nodes."""
        with self._graph.inserting_before(after):
            new = self._graph.call_module(node.target, args, kwargs)
        after.replace_all_uses_with(new)
        self._graph.erase_node(after)
        self._graph.erase_node(node)
        return new

    def _convert(self, node: fx.Node) -> None:
        """Give a node its inputs in a precision that it takes."""
        layer = self._layer(node)
        if layer is not None:
            x = node.args[0]
            node.update_arg(0, self._cast(x, layer.packed.grid or to_halves))
        elif node.op == 'get_attr':
            # As it is then, should it be another tensor.
            live = _Attribute(self._module, node.target)
            with self._graph.inserting_before(node):
                new = self._graph.call_function(live)
            node.replace_all_uses_with(new)
            self._graph.erase_node(node)
        elif node.op != 'placeholder' and not self._is_easy(node):
            for x in node.all_input_nodes:
                node.replace_input_with(x, self._cast(x, to_floats))

    def _cast(self, x: fx.Node, to: Any) -> fx.Node:
        """Insert a cast behind a node, or find the one that is there."""
        if to is to_halves and self._layer(x) is not None:
            return x  # is rounded
        if (x, to) not in self._casts:
            args = (x,) if callable(to) else (x, to)
            cast = to if callable(to) else round_to_bytes
            with self._graph.inserting_after(x):
                self._casts[x, to] = self._graph.call_function(cast, args)
        return self._casts[x, to]

    def _is_easy(self, node: fx.Node) -> bool:
        if node.op == 'call_function':
            return node.target in _EASY_FUNCTIONS
        if node.op == 'call_method':
            return node.target in _EASY_METHODS
        if node.op != 'call_module':
            return False
        kind = type(self._module.get_submodule(node.target))
        return (
            kind.__module__ in _EASY_MODULES
            and kind is not nn.MultiheadAttention
        )

    def _store_bytes(self, node: fx.Node) -> None:
        """Let a layer store bytes, if that is all that is read of it."""
        casts = list(node.users)
        if all(c.target is round_to_bytes for c in casts) and len(casts) == 1:
            (cast,) = casts
            node.kwargs = {**node.kwargs, 'grid': cast.args[1]}
            cast.replace_all_uses_with(node)
            self._graph.erase_node(cast)

    def _overwrite(self, node: fx.Node) -> None:
        """Let a convolution write its sum where nobody reads any more."""
        other = node.args[1]
        if is_fresh(other, self._module) and all(
            self._ends_before(user, node)
            for user in other.users
            if user is not node
        ):
            node.kwargs = {**node.kwargs, 'overwrites': True}

    def _ends_before(self, user: fx.Node, node: fx.Node) -> bool:
        """Tell if a reader, and what may be a view of it, is over by then."""
        if not user < node:
            return False
        if is_fresh(user, self._module) or is_shape(user):
            return True
        if user.target in (to_halves, to_floats, round_to_bytes):
            return all(self._ends_before(u, node) for u in user.users)
        return False


class _Attribute:
    """Reads a weight of a part when it is needed.

    Args:
        module: The part.
        path: Names of the weight in it.
    """

    def __init__(self, module: nn.Module, path: str) -> None:
        self.__name__ = self.__qualname__ = 'attribute'
        self._module = module
        self._get = operator.attrgetter(path)

    def __call__(self) -> Any:
        return self._get(self._module)

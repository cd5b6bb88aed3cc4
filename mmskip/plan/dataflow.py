"""The search for modules that read nothing but what certain layers return.

Folding needs to know this. The order in which modules are defined does not
tell it, so the forwards of the model are traced.
"""

import contextlib
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import fx, nn

from mmskip.va_red2 import SoftModulationGate

from .graph import TraceError, is_shape, trace

try:
    from mmcv.cnn import ConvModule
except ImportError:  # mmcv is optional: torch and mmengine suffice
    ConvModule = None

Test = Callable[[nn.Module], bool]
#: Libraries whose smallest modules are nodes of a graph.
_LIBRARIES = ('torch.nn', 'mmcv.cnn')
#: Arguments of a forward that may be None or not, at most.
_MAX_OPTIONAL = 3


class Readers(NamedTuple):
    """Holds what :func:`find_readers` found.

    Attributes:
        layers: Layers that each reader reads.
        left: Reason why each other candidate is no reader.
        names: Names of all modules; a shared one has several.
    """

    layers: dict[nn.Module, list[nn.Module]]
    left: dict[nn.Module, str]
    names: dict[nn.Module, list[str]]

    def describe(
        self, changed: set[nn.Module], left: dict[nn.Module, str]
    ) -> tuple[list[str], dict[str, str]]:
        """Say by names, in the order of the model, what was made of it.

        Args:
            changed: Layers that took readers.
            left: Reasons why other readers stayed.
        """
        return (
            [names[0] for m, names in self.names.items() if m in changed],
            {
                names[0]: left[m]
                for m, names in self.names.items()
                if m in left
            },
        )


def find_readers(model: nn.Module, is_layer: Test, is_reader: Test) -> Readers:
    """Find modules that could as well be a part of the layers they read.

    Such a module reads in each of its calls what one of the layers
    returned, and nothing else reads that; neither is used in any other way,
    and no hook could tell the difference.

    The model's forward is traced, with all its arguments as unknowns; of a
    module whose forward cannot be traced, what it calls directly is told
    apart if that can be, and the modules inside are traced one by one. Each
    is supposed to be run by its forward, mmcv's ``ConvModule`` with norm and
    activation.

    Args:
        model: In eval mode; it stays as it is.
        is_layer: Function that tells if a module is one of the layers.
        is_reader: Function that tells if a module is a candidate.
    """
    return _Search(model, is_layer, is_reader).run()


class _Search:
    """Goes through a model, from the outermost modules inwards."""

    def __init__(
        self, model: nn.Module, is_layer: Test, is_reader: Test
    ) -> None:
        self._model = model
        self._is_layer = is_layer
        self._is_reader = is_reader
        self._names: dict[nn.Module, list[str]] = {}
        for name, module in model.named_modules(remove_duplicate=False):
            self._names.setdefault(module, []).append(name)
        self._layers: dict[nn.Module, list[nn.Module]] = {}
        self._left = {
            module: 'no forward that can be traced calls it'
            for module in self._names
            if is_reader(module)
        }
        self._visited: set[nn.Module] = set()
        self._decided: set[nn.Module] = set()

    def run(self) -> Readers:
        self._visit(self._model)
        return Readers(self._layers, self._left, self._names)

    def _is_node(self, module: nn.Module) -> bool:
        return self._is_layer(module) or self._is_reader(module)

    def _visit(self, part: nn.Module) -> None:
        """Read a module's forward, then those of what it does not reach."""
        inside = [m for m in part.modules() if m is not part]
        if part in self._visited or not any(map(self._is_reader, inside)):
            return
        self._visited.add(part)
        reached: set[nn.Module] = set()
        try:
            reached = self._read(part)
        except TraceError as error:
            for module in inside:
                if module in self._left:
                    self._left[module] = str(error).splitlines()[0]
            self._read_outline(part)
        for child in part.children():
            self._descend(child, reached)

    def _descend(self, part: nn.Module, reached: set[nn.Module]) -> None:
        """Visit what a traced forward does not call."""
        if reached.isdisjoint(part.modules()):
            self._visit(part)
        else:
            for child in part.children():
                self._descend(child, reached)

    def _read_outline(self, part: nn.Module) -> None:
        """Read a forward, with its parts closed to view."""
        if isinstance(part, SoftModulationGate):
            if self._is_reader(part.norm):
                self._take(part, part.norm, {part.squeeze})
            return
        with contextlib.suppress(TraceError):
            self._read(part, outline=True)

    def _read(self, part: nn.Module, outline: bool = False) -> set[nn.Module]:
        """Take what all calls of a forward agree on; returns what it calls.

        Raises:
            TraceError: It cannot be traced.
        """
        skeleton = _skeleton(part, self._is_node, outline)
        graphs = [trace(skeleton, (), call) for call in _calls(skeleton)]
        views = [_View(graph, part) for graph in graphs]
        reached = set().union(*(view.calls for view in views))
        for module in reached - self._decided:
            if not self._is_reader(module):
                continue
            self._decided.add(module)
            layers = set().union(*(view.read_by(module) for view in views))
            whys = [view.refusal(module, layers) for view in views]
            if not all(map(self._is_layer, layers)):
                self._left[module] = 'it reads something else'
            elif any(whys):
                self._left[module] = next(filter(None, whys))
            else:
                self._take(part, module, layers, outline)
        return reached

    def _take(
        self,
        part: nn.Module,
        reader: nn.Module,
        layers: set[nn.Module],
        outline: bool = False,
    ) -> None:
        """Accept a reader, unless others could tell the difference."""
        modules = (reader, *layers)
        if not all(self._is_inside(m, part, outline) for m in modules):
            self._left[reader] = 'it, or what it reads, is shared'
            return
        paths = [self._path(module) for module in modules]
        between = set.union(*paths) - set.intersection(*paths)
        if any(map(_is_watched, between)):
            self._left[reader] = (
                'a hook, or a forward that was replaced, is between it and '
                'what it reads'
            )
            return
        del self._left[reader]
        self._layers[reader] = sorted(layers, key=lambda m: self._names[m][0])

    def _is_inside(
        self, module: nn.Module, part: nn.Module, directly: bool
    ) -> bool:
        """Tell if all names of a module are within those of another."""
        inside = tuple(f'{name}.'.lstrip('.') for name in self._names[part])
        if not all(name.startswith(inside) for name in self._names[module]):
            return False
        between = self._path(module) - self._path(part) - {module}
        return not directly or all(map(_is_container, between))

    def _path(self, module: nn.Module) -> set[nn.Module]:
        """Collect a module, and all that it is in."""
        path = {module}
        for name in self._names[module]:
            while name:
                name = name.rpartition('.')[0]
                path.add(self._model.get_submodule(name))
        return path


class _View:
    """Shows a graph of a module by the modules that it calls.

    Args:
        graph: Graph of a skeleton of the module.
        part: The module itself.
    """

    def __init__(self, graph: fx.Graph, part: nn.Module) -> None:
        self.calls: dict[nn.Module, list[fx.Node]] = {}
        self._owners: dict[fx.Node, nn.Module] = {}
        self._read_apart: set[nn.Module] = set()
        for node in graph.nodes:
            if node.op == 'call_module':
                module = part.get_submodule(node.target)
                self.calls.setdefault(module, []).append(node)
                self._owners[node] = module
            elif node.op == 'get_attr':
                owner = node.target.rpartition('.')[0]
                self._read_apart.add(part.get_submodule(owner))

    def read_by(self, reader: nn.Module) -> set[nn.Module | None]:
        """Find the modules whose results a module reads; None for others."""
        sources = [call.args[0] for call in self.calls.get(reader, [])]
        return {self._owners.get(source) for source in sources}

    def refusal(
        self, reader: nn.Module, layers: set[nn.Module | None]
    ) -> str | None:
        """Say why a module is not all that reads layers, None if it is."""
        calls = self.calls.get(reader, [])
        for layer in layers:
            for node in self.calls.get(layer, []):
                users = {n for n in node.users if not is_shape(n)}
                if not users.issubset(calls):
                    return 'others read what it reads'
        if not self._read_apart.isdisjoint({reader, *layers}):
            return 'its weights, or those it reads, are used elsewhere'
        return None


def _is_watched(module: nn.Module) -> bool:
    hooks = module._forward_hooks or module._forward_pre_hooks
    return bool(hooks) or 'forward' in vars(module)


def _calls(module: nn.Module) -> Iterator[dict[str, torch.Tensor | None]]:
    """List arguments of a forward: unknowns, or None where that is default.

    Raises:
        TraceError: It takes any number of them.
    """
    kind = type(module).__name__
    parameters = inspect.signature(module.forward).parameters.values()
    if ConvModule is not None and type(module).forward is ConvModule.forward:
        parameters = [p for p in parameters if p.default is p.empty]
    named = (
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    )
    optional = sum(p.default is None for p in parameters)
    if any(p.kind not in named for p in parameters):
        raise TraceError(f'the forward of {kind} takes any arguments')
    if optional > _MAX_OPTIONAL:
        raise TraceError(
            f'the forward of {kind} takes {optional} optional arguments'
        )
    values = [
        (None, torch.empty(0)) if p.default is None else (torch.empty(0),)
        for p in parameters
    ]
    for chosen in itertools.product(*values):
        yield {p.name: v for p, v in zip(parameters, chosen, strict=True)}


def _skeleton(
    module: nn.Module, is_node: Test, outline: bool = False
) -> nn.Module:
    """Make a twin to be traced in place of a module, with its parameters.

    Nodes appear as layers of torch, whatever they do inside, and blocks
    without checkpointing, which changes gradients only.

    Args:
        module: The module.
        is_node: Function that tells if a module inside is called without
            looking into it.
        outline: True looks into no module inside.
    """
    twins: dict[nn.Module, nn.Module] = {}

    def copy(part: nn.Module) -> nn.Module:
        if part not in twins:
            twins[part] = make(part)
        return twins[part]

    def make(part: nn.Module) -> nn.Module:
        """Copy a module; its parameters are shared, its children copied."""
        kind, children = type(part), part._modules
        if part is not module and is_node(part):
            kind = next(
                k for k in kind.__mro__ if k.__module__.startswith('torch.nn')
            )
            children = {}
        elif part is not module and (
            isinstance(part, torch.jit.ScriptModule)
            or (outline and _has_inside(part))
        ):
            return nn.Flatten().eval()  # stands for any module
        twin = kind.__new__(kind)
        vars(twin).update(vars(part))
        vars(twin)['_modules'] = {
            name: child if child is None else copy(child)
            for name, child in children.items()
        }
        if 'with_cp' in vars(twin):
            vars(twin)['with_cp'] = False
        return twin

    return copy(module)


def _is_container(module: nn.Module) -> bool:
    """Tell if others may as well call the modules in a module."""
    if isinstance(module, nn.Sequential):
        return type(module).forward is nn.Sequential.forward
    return isinstance(module, (nn.ModuleList, nn.ModuleDict))


def _has_inside(module: nn.Module) -> bool:
    """Tell if there is something inside to look into."""
    if _is_container(module):
        return False
    library = type(module).__module__.startswith(_LIBRARIES)
    return bool(module._modules) or not library

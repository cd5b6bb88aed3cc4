"""The trace of a module: the graph along which changes are propagated."""

import contextlib
import operator
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from threading import Lock, get_ident
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch._subclasses import FakeTensorMode
from torch.fx.immutable_collections import immutable_dict
from torch.utils import _pytree
from torch.utils._python_dispatch import _disable_current_modes

from mmskip.native.library import LEAKY_RELU
from mmskip.skip_conv import SkipConvMixin, SkipLinearMixin
from mmskip.skip_conv.linear import SkipLinearApart

try:
    from mmcv.cnn.bricks import DropPath
except ImportError:  # mmcv is optional: torch and mmengine suffice
    DropPath = nn.Dropout

#: Operations in place (``a += b``), and those that make a new tensor.
_IN_PLACE = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    operator.ifloordiv: operator.floordiv,
    operator.imod: operator.mod,
    operator.ipow: operator.pow,
}
#: Methods and attributes of a tensor that tell nothing of its values.
_SHAPE_METHODS = {'size', 'dim', 'numel', 'ndimension'}
_SHAPE_ATTRIBUTES = {'shape', 'ndim', 'dtype', 'device'}
#: Those of them that are the same for images of all sizes.
_RANK_METHODS = {'dim', 'ndimension'}
_RANK_ATTRIBUTES = {'ndim', 'dtype', 'device'}
#: Methods that take values out of a tensor.
_VALUE_METHODS = {'item', 'tolist', 'numpy', 'data_ptr'}
#: Methods that depend on where a tensor keeps them.
_LAYOUT_METHODS = {'as_strided', 'is_contiguous', 'storage_offset', 'stride'}
#: Methods that may fail in another layout, and their like that do not.
_VIEWS = {'view': 'reshape', 'view_as': 'reshape_as'}
#: Functions that make tensors whose size depends on values.
_SELECTIONS = {'argwhere', 'masked_select', 'nonzero', 'unique'}
#: Functions whose result is a tensor of its own.
_FRESH = {
    *(*_IN_PLACE, *_IN_PLACE.values()),
    *(torch.cat, F.interpolate, F.relu, F.batch_norm),
}
#: Files of torch's modules whose result is a tensor of its own, too.
_FRESH_MODULES = {
    f'torch.nn.modules.{name}'
    for name in (
        'activation',
        'batchnorm',
        'conv',
        'instancenorm',
        'linear',
        'normalization',
        'pooling',
        'upsampling',
    )
}
#: Functions whose results are others in each call.
_RANDOM = ('rand', 'normal', 'bernoulli', 'multinomial', 'poisson')
#: Libraries whose smallest modules have no state but their parameters.
_LIBRARIES = ('torch.nn', 'mmcv.cnn')
#: Names of activations in the library, by exact class and by function.
_ACTIVATION_MODULES = {
    nn.ReLU: 'relu',
    nn.SiLU: 'silu',
    nn.ReLU6: 'relu6',
    nn.Hardswish: 'hardswish',
}
_ACTIVATION_FUNCTIONS = {
    F.relu: 'relu',
    torch.relu: 'relu',
    'relu': 'relu',
    F.silu: 'silu',
    F.relu6: 'relu6',
    F.hardswish: 'hardswish',
}
#: In eval mode, in which plans are made.
_IDENTITIES = (nn.Identity, nn.Dropout, nn.Dropout2d, DropPath)
#: Modules may be shared by models that are traced in different threads.
_TRACING = Lock()


class TraceError(ValueError):
    """Says why a module's forward is no fixed graph of what is supported."""


def trace(
    module: nn.Module, args: tuple, kwargs: dict, ranked: bool = False
) -> fx.Graph:
    """Record the operations of a module's forward, none of them in place.

    Skip-Convolutions and the smallest modules of torch and mmcv are nodes.
    Placeholders are the tensors of ``args`` and ``kwargs``, in their order.

    Args:
        module: Module in eval mode.
        args: Arguments of a call; all but tensors are constants of the graph.
        kwargs: Keyword arguments of the call.
        ranked: True makes the numbers of dimensions, and types, constants of
            the graph, so that forwards may branch on them; sizes stay nodes.

    Raises:
        TraceError: Its forward depends on values, or writes into its inputs
            or into parts of tensors.
    """
    sizes = Sizes(_RANK_METHODS, _RANK_ATTRIBUTES) if ranked else None
    if any(isinstance(part, SkipLinearMixin) for part in module.modules()):
        # Tokens are counted, cut into windows and padded by their number.
        sizes = Sizes()
    try:
        with _TRACING:
            graph = _Tracer(module, sizes).run(args, kwargs)
    except Exception as error:  # whatever a forward does to a proxy
        raise TraceError(
            f'the forward of {type(module).__name__} is no fixed graph: '
            f'{error}'
        ) from error
    for node in graph.nodes:
        if node.op == 'call_module' and not node.args:
            raise TraceError(f'{node.format_node()} has no first argument')
    _drop_identities(graph, module)
    _resolve_writes(graph, module)
    # Calls of modules count, even if nobody reads what they return.
    keep = ('placeholder', 'output', 'call_module')
    graph.eliminate_dead_code(lambda n: n.op in keep)
    for node in graph.nodes:
        _check_values(node)
    return graph


def activation_of(node: fx.Node, module: nn.Module) -> str | None:
    """Name the activation that a node applies to its first argument.

    The names are those of the library; None for all other nodes.
    """
    if node.op == 'call_module':
        return activation_name(module.get_submodule(node.target))
    return _ACTIVATION_FUNCTIONS.get(node.target)


def activation_name(module: nn.Module) -> str | None:
    """Name an activation as the library does; None for other modules."""
    if type(module) is nn.LeakyReLU:
        return f'{LEAKY_RELU}{module.negative_slope}'
    return _ACTIVATION_MODULES.get(type(module))


def is_shape(node: fx.Node) -> bool:
    """Tell if a node reads the shape, the type or the like of a tensor."""
    if node.op == 'call_method':
        return node.target in _SHAPE_METHODS
    return node.target is getattr and node.args[1] in _SHAPE_ATTRIBUTES


def find_constants(graph: fx.Graph) -> set[fx.Node]:
    """Find the nodes that are the same in each frame of one size."""
    constants: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == 'placeholder':
            continue
        if is_shape(node) or constants.issuperset(node.all_input_nodes):
            constants.add(node)
    return constants


@contextmanager
def apart() -> Iterator[None]:
    """Let tensors be made that later frames, of any mode, may write into.

    Nothing that watches what the model does, such as the search for products
    that no layer counts, is told of it.
    """
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        _disable_current_modes(),
    ):
        yield


def compute(
    node: fx.Node, module: nn.Module, value_of: Callable[[fx.Node], Any]
) -> Any:
    """Compute the value of a node, without writing into its arguments."""
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


class _Tracer(fx.Tracer):
    """Records the operations of one module tree, and touches nothing else.

    ``torch.fx.Tracer.trace`` replaces ``nn.Module.__call__`` for the whole
    process while it runs, so that a model in another thread fails. Here the
    modules of the tree get a class of their own for that time.

    Args:
        root: The module to be traced.
        sizes: Makes the sizes of tensors constants of the graph, which is
            for inputs of one size in any case. None: sizes are nodes.
    """

    proxy_buffer_attributes = True

    def __init__(self, root: nn.Module, sizes: 'Sizes | None' = None) -> None:
        super().__init__()
        self.root = root
        self.sizes = sizes
        self.graph = fx.Graph(tracer_cls=type(self))
        self.submodule_paths = {m: name for name, m in root.named_modules()}
        self.tensor_attrs = {
            value: f'{path}.{name}' if path else name
            for path, part in root.named_modules()
            for name, value in vars(part).items()
            if torch.is_tensor(value)
        }
        self._proxies: dict[str, fx.Proxy] = {}

    def proxy(self, node: fx.Node) -> fx.Proxy:
        if self.sizes is None:
            return _Proxy(node, self)
        kind = _SizedProxy if 'size' in self.sizes.methods else _RankedProxy
        return kind(node, self)

    def create_proxy(
        self,
        kind: str,
        target: Any,
        args: tuple,
        kwargs: dict,
        *rest: Any,
        **options: Any,
    ) -> Any:
        """Make a node; of one that tells a size, the size itself."""
        sizes = self.sizes
        if (
            sizes is not None
            and kind == 'call_method'
            and target in sizes.methods
            and sizes.is_tensor(args[0])
        ):
            return getattr(sizes.of(args[0]), target)(*args[1:], **kwargs)
        proxy = super().create_proxy(
            kind, target, args, kwargs, *rest, **options
        )
        if sizes is not None:
            sizes.note(proxy.node, self.root)
        return proxy

    def create_arg(self, a: Any) -> Any:
        """Make an argument of a node; tensors made of sizes are constants."""
        if (
            self.sizes is not None
            and torch.is_tensor(a)
            and a not in self.tensor_attrs
            and not isinstance(a, nn.Parameter)
        ):
            node = self.create_node('call_function', _Constant(a), (), {})
            self.sizes.note(node, self.root)
            return node
        if isinstance(a, dict) and type(a) not in (dict, immutable_dict):
            raise TraceError(f'{type(a).__name__} would become a dict')
        return super().create_arg(a)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return (
            isinstance(m, SkipConvMixin)
            or getattr(m, 'packed', None) is not None
            or (not m._modules and type(m).__module__.startswith(_LIBRARIES))
        )

    def run(self, args: tuple, kwargs: dict) -> fx.Graph:
        """Call the root, with proxies in place of the tensors."""
        for name, part in self.root.named_modules():
            # Nobody calls it: its weight would be multiplied by, as a proxy.
            if isinstance(part, SkipLinearApart):
                raise TraceError(f'{name} is over tokens')
        leaves, spec = _pytree.tree_flatten((args, kwargs))
        for index, leaf in enumerate(leaves):
            if torch.is_tensor(leaf):
                leaves[index] = super().create_proxy(
                    'placeholder', f'input_{index}', (), {}
                )
                if self.sizes is not None:
                    self.sizes.begin(leaves[index].node, leaf)
        args, kwargs = _pytree.tree_unflatten(leaves, spec)
        with self._watched():
            # Past a forward that was put on the instance.
            result = type(self.root).forward(self.root, *args, **kwargs)
            self.create_node(
                'output', 'output', (self.create_arg(result),), {}
            )
        return self.graph

    @property
    def is_paused(self) -> bool:
        """True while a size is found, which is no part of the graph."""
        return self.sizes is not None and self.sizes.is_busy

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Let the tracer notice the calls and the weights of the modules."""
        classes: dict[type, type] = {}
        own = {part: type(part) for part in self.submodule_paths}
        try:
            for part, kind in own.items():
                if kind not in classes:
                    classes[kind] = self._watched_class(kind)
                part.__class__ = classes[kind]
            yield
        finally:
            for part, kind in own.items():
                part.__class__ = kind

    def _watched_class(self, kind: type[nn.Module]) -> type[nn.Module]:
        tracer, thread = self, get_ident()

        def call(part: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if get_ident() != thread or tracer.is_paused:
                return kind.__call__(part, *args, **kwargs)

            def forward(*args: Any, **kwargs: Any) -> Any:
                return kind.__call__(part, *args, **kwargs)

            return tracer.call_module(part, forward, args, kwargs)

        def get(part: nn.Module, name: str) -> Any:
            value = kind.__getattr__(part, name)
            if get_ident() != thread or tracer.is_paused:
                return value
            return tracer.getattr(name, value, tracer._proxies)

        members = {
            '__call__': call,
            '__getattr__': get,
            '__module__': kind.__module__,
            '__doc__': kind.__doc__,
        }
        return type(kind.__name__, (kind,), members)


def _update(function: Callable) -> Callable:
    def update(self: fx.Proxy, other: Any) -> fx.Proxy:
        create = self.tracer.create_proxy
        return create('call_function', function, (self, other), {})

    return update


class Sizes:
    """Knows the sizes of the values of a graph while it is traced.

    They are found with tensors that have sizes and hold no numbers.

    Args:
        methods: Methods of a tensor that are answered while it is traced.
        attributes: Attributes of the same kind.

    Attributes:
        is_busy: True while one is found.
    """

    def __init__(
        self,
        methods: Set[str] = frozenset(_SHAPE_METHODS),
        attributes: Set[str] = frozenset(_SHAPE_ATTRIBUTES),
    ) -> None:
        self.methods = methods
        self.attributes = attributes
        self.is_busy = False
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._values: dict[fx.Node, Any] = {}

    def begin(self, node: fx.Node, value: torch.Tensor) -> None:
        """Note an input."""
        with apart():
            self._values[node] = self._mode.from_tensor(value.detach())

    def is_tensor(self, proxy: Any) -> bool:
        """Tell if a value is a tensor of a known size."""
        return isinstance(proxy, fx.Proxy) and torch.is_tensor(
            self._values.get(proxy.node)
        )

    def of(self, proxy: fx.Proxy) -> Any:
        """Give a tensor of the size of a value, without its numbers."""
        return self._values.get(proxy.node)

    def note(self, node: fx.Node, root: nn.Module) -> None:
        """Find the size of a new node, if those of its arguments are known."""
        if not all(n in self._values for n in node.all_input_nodes):
            return
        self.is_busy = True
        try:
            # What fails here fails, or does not, when a frame is computed.
            with apart(), self._mode, contextlib.suppress(Exception):
                self._values[node] = self._compute(node, root)
        finally:
            self.is_busy = False

    def _compute(self, node: fx.Node, root: nn.Module) -> Any:
        if node.op != 'call_module':
            return compute(node, root, self._values.__getitem__)
        part = root.get_submodule(node.target)
        args = fx.map_arg(node.args, self._values.__getitem__)
        kwargs = fx.map_arg(node.kwargs, self._values.__getitem__)
        if isinstance(part, SkipLinearMixin):
            return args[0].new_empty(*args[0].shape[:-1], part.out_features)
        kind = type(part).__mro__[1]  # below that of the tracer
        # Not what runs in a stream.
        kind = getattr(kind, 'dense_class', kind)
        return kind.forward(part, *args, **kwargs)


class _Constant:
    """Gives a tensor that is the same in all frames.

    Args:
        value: The tensor.
    """

    def __init__(self, value: torch.Tensor) -> None:
        self.__name__ = self.__qualname__ = 'constant'
        self._value = value

    def __call__(self) -> torch.Tensor:
        return self._value


class _Proxy(fx.Proxy):
    """Tells ``a += b`` from ``a + b``."""

    __iadd__ = _update(operator.iadd)
    __isub__ = _update(operator.isub)
    __imul__ = _update(operator.imul)
    __itruediv__ = _update(operator.itruediv)
    __ifloordiv__ = _update(operator.ifloordiv)
    __imod__ = _update(operator.imod)
    __ipow__ = _update(operator.ipow)


class _RankedProxy(_Proxy):
    """Tells what is known of a tensor, too."""

    def __getattr__(self, name: str) -> Any:
        sizes = self.tracer.sizes
        if name in sizes.attributes and sizes.is_tensor(self):
            return getattr(sizes.of(self), name)
        return super().__getattr__(name)


class _SizedProxy(_RankedProxy):
    """Counts its parts, where their number is known."""

    def __len__(self) -> int:
        return len(self.tracer.sizes.of(self))

    def __iter__(self) -> Iterator[fx.Proxy]:
        return iter([self[index] for index in range(len(self))])


def _drop_identities(graph: fx.Graph, module: nn.Module) -> None:
    for node in list(graph.nodes):
        if node.op == 'call_module' and isinstance(
            module.get_submodule(node.target), _IDENTITIES
        ):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _written(node: fx.Node, module: nn.Module) -> bool:
    """Tell if a node writes into its first argument; it does so no more."""
    if node.op == 'call_module':
        return bool(
            getattr(module.get_submodule(node.target), 'inplace', False)
        )
    if node.op == 'call_method':
        writes = node.target.endswith('_') and not node.target.endswith('__')
        if writes:
            node.target = node.target[:-1]
            if not callable(getattr(torch.Tensor, node.target, None)):
                raise TraceError(f'there is no Tensor.{node.target}')
        return writes
    if node.op != 'call_function':
        return False
    if node.target in _IN_PLACE:
        node.target = _IN_PLACE[node.target]
        return True
    name = getattr(node.target, '__name__', '')
    if (
        node.target is operator.setitem
        or (name.endswith('_') and not name.endswith('__'))
        or 'out' in node.kwargs
    ):
        raise TraceError(f'{node.format_node()} writes into a tensor')
    writes = node.kwargs.get('inplace', False)
    if writes:
        node.kwargs = {**node.kwargs, 'inplace': False}
    return bool(writes)


def _resolve_writes(graph: fx.Graph, module: nn.Module) -> None:
    """Let what comes after a write read its result."""
    written: set[fx.Node] = set()
    for node in graph.nodes:
        if not _written(node, module):
            continue
        target = node.args[0]
        if not isinstance(target, fx.Node):
            raise TraceError(f'{node.format_node()} writes into a constant')
        views = [
            user
            for user in target.users
            if user < node and not (is_fresh(user, module) or is_shape(user))
        ]
        fresh = target in written or is_fresh(target, module)
        written.add(node)
        if not fresh or views:
            raise TraceError(
                f'{node.format_node()} writes into a tensor that others may '
                'read'
            )
        target.replace_all_uses_with(
            node, delete_user_cb=lambda user, node=node: user > node
        )


def is_fresh(node: fx.Node, module: nn.Module) -> bool:
    """Tell if a node returns a tensor of its own, and no view.

    Args:
        node: Node of a graph.
        module: Module of the graph.
    """
    if node.op == 'call_module':
        kinds = type(module.get_submodule(node.target)).__mro__
        return any(kind.__module__ in _FRESH_MODULES for kind in kinds)
    return node.op == 'call_function' and node.target in _FRESH


def _check_values(node: fx.Node) -> None:
    """Refuse what takes values out of tensors, and random ones."""
    if node.op == 'call_method' and node.target in _VALUE_METHODS:
        raise TraceError(f'{node.format_node()} depends on values')
    if node.op == 'call_method' and node.target in _LAYOUT_METHODS:
        raise TraceError(f'{node.format_node()} depends on the layout')
    if node.op == 'call_method' and torch.dtype not in map(type, node.args):
        node.target = _VIEWS.get(node.target, node.target)
    if node.op in ('call_function', 'call_method'):
        name = getattr(node.target, '__name__', node.target)
        if name in _SELECTIONS or (name == 'where' and len(node.args) == 1):
            raise TraceError(f'{node.format_node()} has no fixed size')
        if name.startswith(_RANDOM) or node.kwargs.get('training', False):
            raise TraceError(f'{node.format_node()} is another in each frame')

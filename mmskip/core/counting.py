"""``count_macs``: watch a model and fill a ledger."""

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.parametrize import is_parametrized
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from .layer import CountedWhole, dense_macs
from .ledger import FrameSkipper, MacLedger

# Layers with weights whose work the convention leaves out.
FREE_LAYERS = (
    _NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.PReLU,
    nn.Embedding,
)
PRODUCTS = {
    'addbmm',
    'addmm',
    'addmv',
    'baddbmm',
    'bmm',
    'convolution',
    'dot',
    'mm',
    'mv',
    # Fused attention.
    '_native_multi_head_attention',
    '_scaled_dot_product_cudnn_attention',
    '_scaled_dot_product_efficient_attention',
    '_scaled_dot_product_flash_attention',
    '_scaled_dot_product_flash_attention_for_cpu',
    '_scaled_dot_product_fused_attention_overrideable',
    '_transformer_encoder_layer_fwd',
    # Composites, which inference mode does not take apart.
    'conv1d',
    'conv2d',
    'conv3d',
    'conv_transpose1d',
    'conv_transpose2d',
    'conv_transpose3d',
    'einsum',
    'linear',
    'matmul',
    'scaled_dot_product_attention',
    'tensordot',
}

#: Products that do more than project.
ATTENTIONS = {'_native_multi_head_attention', '_transformer_encoder_layer_fwd'}
#: Weights of children that are read, and not only asked for their kind.
_READ = re.compile(
    r'\bself\.(\w+)\.(?:in_proj_)?weight\b'
    r'(?!\.(?:device|dtype|shape|size|requires_grad)\b)'
)
_MULTIPLIED = re.compile(r'\bF\.linear\([^()]*?\bself\.(\w+)\.weight\b')
#: Methods that may read weights in between forwards.
_SETS_UP = re.compile(r'_*(init|reset|load|state_dict|extra_repr)')


@contextmanager
def count_macs(model: nn.Module) -> Iterator[MacLedger]:
    """Count the MACs that a model does, layer by layer.

    It works on any model, converted or not, inside or outside a stream. The
    first forward also looks for matrix products that no layer accounts for.

    Args:
        model: The model whose forwards are frames.

    Yields:
        The ledger; it may be read inside the block and after it.

    Raises:
        RuntimeError: The model is being counted already.
    """
    watch = _Watch(model)
    try:
        yield watch.ledger
    finally:
        watch.close()


def list_counted(model: nn.Module) -> dict[nn.Module, str]:
    """List the layers of a model that may do MACs, with their names."""
    inner = _inside_wholes(model)
    return {
        module: name
        for name, module in model.named_modules()
        if module not in inner and may_do_macs(module)
    }


def may_do_macs(module: nn.Module) -> bool:
    """Tell if a module is a layer that may do MACs.

    What a composite module does with weights of its own shows up as products
    outside of layers; the projections of torch's ``MultiheadAttention`` are
    counted for it, see :func:`projection_macs`.
    """
    if isinstance(module, CountedWhole):
        return True
    if is_parametrized(module):
        return isinstance(module, (_ConvNd, nn.Linear))
    if isinstance(module, FREE_LAYERS) or any(True for _ in module.children()):
        return False
    return any(weight.dim() > 1 for weight in module.parameters())


def plain_macs(module: nn.Module, inputs: tuple, output: Tensor) -> int | None:
    """Count the MACs of one call of a stock layer, None for unknown kinds.

    Args:
        module: The layer.
        inputs: Its positional inputs.
        output: Its output.
    """
    if isinstance(module, _ConvTransposeNd):
        return inputs[0].numel() * module.weight[0].numel()
    if isinstance(module, _ConvNd):
        return dense_macs(module, output.shape)
    if isinstance(module, nn.Linear):
        return output.numel() * module.in_features
    return None


def projection_macs(
    attention: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
) -> int:
    """Count the MACs of an attention's four projections in one call.

    Its two products of tokens with tokens are no layers, and do not count.

    Args:
        attention: The attention.
        query: Its input (..., embed_dim), from which as many tokens go out.
        key: Its input (..., kdim).
        value: Its input (..., vdim).
    """
    numbers = 2 * query.numel() + key.numel() + value.numel()
    return attention.embed_dim * numbers


class Reading(NamedTuple):
    """Tells that a module reads the weight of a layer in it.

    Attributes:
        layer: The linear layer, or the attention.
        reader: The module that it is a child of.
        multiplies: True if all that the reader's forward does with the
            weight is ``F.linear(x, self.layer.weight, ...)``.
    """

    layer: nn.Module
    reader: nn.Module
    multiplies: bool


def read_apart(model: nn.Module) -> list[Reading]:
    """Find layers whose weights other modules read, past the layers.

    ``F.linear(x, self.qkv.weight, bias)`` is written in the forward of some
    attention modules; the layer itself is never called there.

    Args:
        model: Any model.
    """
    return [
        Reading(child, module, name not in elsewhere)
        for module in model.modules()
        for read, elsewhere in [_names_read(type(module))]
        for name, child in module.named_children()
        if name in read
        and isinstance(child, (nn.Linear, nn.MultiheadAttention))
    ]


@lru_cache(maxsize=1024)
def _names_read(kind: type) -> tuple[frozenset[str], frozenset[str]]:
    """Name the children whose weights are read in the source of a class.

    Returns:
        All of them, and those that are not only multiplied by.
    """
    own = kind.__mro__[: kind.__mro__.index(nn.Module)]
    methods = {
        name: method
        for base in reversed(own)
        for name, method in vars(base).items()
        if inspect.isfunction(method) and not _SETS_UP.match(name)
    }
    source = ''.join(map(_source_of, methods.values()))
    read, multiplied = _READ.findall(source), _MULTIPLIED.findall(source)
    elsewhere = {n for n in read if read.count(n) != multiplied.count(n)}
    return frozenset(read), frozenset(elsewhere)


def _source_of(function: Callable) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):  # made at run time, or not of Python
        return ''


def route_products(
    readings: Iterable[Reading],
    multiply: Callable[[nn.Module, Tensor, Tensor | None], Tensor],
) -> list:
    """Let a function compute where forwards multiply past layers.

    Args:
        readings: Layers and their readers, see :func:`read_apart`.
        multiply: Takes (layer, x, bias) and gives what
            ``F.linear(x, layer.weight, bias)`` would.

    Returns:
        Handles with ``remove()``.
    """
    handles = []
    for layer, reader, _ in readings:
        route = _Route(layer, multiply)
        handles += around_forward(reader, route.begin, route.end)
    return handles


class _Route(TorchFunctionMode):
    """Lets a function multiply by the weight of a layer."""

    def __init__(
        self,
        layer: nn.Module,
        multiply: Callable[[nn.Module, Tensor, Tensor | None], Tensor],
    ) -> None:
        super().__init__()
        self.layer = layer
        self.multiply = multiply
        self._depth = 0

    def begin(self, *_: Any) -> None:
        self.__enter__()
        self._depth += 1

    def end(self, *_: Any) -> None:
        # A hook before this one may have raised.
        if self._depth:
            self._depth -= 1
            self.__exit__(None, None, None)

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.linear:
            x, weight, bias = _operands(*args, **kwargs)
            if weight is self.layer._parameters.get('weight'):
                return self.multiply(self.layer, x, bias)
        return func(*args, **kwargs)


def _operands(
    input: Tensor, weight: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Put the arguments of ``F.linear`` in order."""
    return input, weight, bias


def around_forward(
    module: nn.Module,
    before: Callable[..., None],
    after: Callable[..., None],
) -> list:
    """Call ``before`` and ``after`` around every forward of a module.

    ``after`` is called when the forward raises, too.

    Args:
        module: The module to watch.
        before: Takes (module, inputs).
        after: Takes (module, inputs, output).

    Returns:
        Two handles with ``remove()``.
    """
    return [
        module.register_forward_pre_hook(TransientHook(before)),
        module.register_forward_hook(TransientHook(after), always_call=True),
    ]


class TransientHook:
    """Hooks a module, and turns into nothing when the module is copied.

    Deep copies and pickles of a model take its hooks with them; ours would
    drag a stream's memory along and act on the wrong model.

    Args:
        function: Called with the hook's arguments.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function

    def __call__(self, *args: Any) -> None:
        self.function(*args)

    def __reduce__(self) -> tuple:
        return TransientHook, (_nothing,)


# What is multiplied where no layer is: as attention does, and by weights.
ACTIVATIONS = 'products of activations'
WEIGHTED = 'multiplies by weights outside of any layer'


class ProductMacs(TorchDispatchMode):
    """Counts the MACs of the products that no layer accounts for.

    Inside its block, attention is computed by products that can be counted,
    and not by operators that are faster.

    Args:
        model: Whose forwards are watched.
        ledger: Of the :func:`count_macs` block that this one is in.
    """

    def __init__(self, model: nn.Module, ledger: MacLedger) -> None:
        super().__init__()
        self._model = model
        self._ledger = ledger
        self._macs: Counter[tuple[str, str]] = Counter()
        self._inside = [('', False)]
        self._block = ExitStack()

    def macs(self) -> dict[tuple[str, str], int]:
        """Give MACs by the name of the innermost module, and their kind.

        What a module multiplies by weights is left out if it is in the
        ledger by that name.
        """
        layers = self._ledger.by_module()
        return {
            (name, kind): macs
            for (name, kind), macs in self._macs.items()
            if kind != WEIGHTED or name not in layers
        }

    def __enter__(self) -> 'ProductMacs':
        for name, module in self._model.named_modules():
            known = isinstance(module, (CountedWhole, _ConvNd, nn.Linear))
            place = name, may_do_macs(module) and not known
            for handle in around_forward(
                module,
                lambda *_, place=place: self._inside.append(place),
                lambda *_: self._inside.pop(),
            ):
                self._block.callback(handle.remove)
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        self._block.callback(torch.backends.mha.set_fastpath_enabled, fast)
        self._block.enter_context(sdpa_kernel(SDPBackend.MATH))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._block.close()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__.rstrip('_')
        count = flop_registry.get(getattr(torch.ops.aten, name, None))
        where, is_unknown = self._inside[-1]
        # Layers of a kind unknown to the ledger are in it without MACs.
        if count is None or (self._ledger.in_layer and not is_unknown):
            return output
        kind = ACTIVATIONS if name in ('bmm', 'baddbmm') else WEIGHTED
        flops = count(*args, **(kwargs or {}), out_val=output)
        self._macs[where, kind] += flops // 2
        return output


class _Watch:
    """Holds the hooks of one ``count_macs`` block."""

    def __init__(self, model: nn.Module) -> None:
        names = list_counted(model)
        attentions = {
            module: name
            for name, module in model.named_modules()
            if isinstance(module, nn.MultiheadAttention)
        }
        self.ledger = MacLedger({**names, **attentions})
        self._loose: _LooseProducts | None = None
        self._forwards = 0
        self._own = [m for m in names if isinstance(m, CountedWhole)]
        if any(module._ledger is not None for module in self._own):
            raise RuntimeError(
                'this model is inside count_macs() already; leave that '
                'block first'
            )
        # A root that is itself a layer must begin before it is counted.
        self._handles = around_forward(model, self._begin, self._end)
        for module in names:
            self._handles += around_forward(module, self._enter, self._leave)
        for module in attentions:
            self._handles += [
                module.register_forward_pre_hook(
                    TransientHook(self._enter_attention), with_kwargs=True
                ),
                module.register_forward_hook(
                    TransientHook(self._leave_attention),
                    with_kwargs=True,
                    always_call=True,
                ),
            ]
        self._handles += route_products(
            (r for r in read_apart(model) if r.multiplies), self._multiply
        )
        for module in self._own:
            module._ledger = self.ledger
        self._skippers = [
            m for m in model.modules() if isinstance(m, FrameSkipper)
        ]
        for module in self._skippers:
            module.mmskip_ledger = self.ledger

    def close(self) -> None:
        self._end()  # an interrupt leaves a forward without its hooks
        for handle in self._handles:
            handle.remove()
        for module in self._own:
            del module._ledger
        for module in self._skippers:
            del module.mmskip_ledger

    def _begin(self, *_: Any) -> None:
        self.ledger.begin_forward()
        self._forwards += 1
        if self._forwards == 1:
            self._loose = _LooseProducts(self.ledger)
            self._loose.__enter__()

    def _end(self, *_: Any) -> None:
        self.ledger.end_forward()
        if self._loose is not None:
            self._loose.__exit__(None, None, None)
            self._loose = None

    def _enter(self, module: nn.Module, inputs: tuple) -> None:
        if inputs and isinstance(inputs[0], Tensor):
            self.ledger.note_batch(len(inputs[0]))
        self.ledger.enter_layer()

    def _leave(self, module: nn.Module, inputs: tuple, output: Any) -> None:
        self.ledger.leave_layer()
        if isinstance(module, CountedWhole) or output is None:
            return
        macs = plain_macs(module, inputs, output)
        if macs is not None:
            self.ledger.record(module, macs, macs)
        elif self._forwards == 1:
            self.ledger.record_uncounted(type(module).__name__)

    def _enter_attention(
        self, module: nn.MultiheadAttention, args: tuple, kwargs: dict
    ) -> None:
        query = kwargs['query'] if 'query' in kwargs else args[0]
        batch = 0 if module.batch_first else 1
        self.ledger.note_batch(query.shape[batch] if query.dim() == 3 else 1)
        if self._loose is not None:
            self._loose.attention = module

    def _leave_attention(
        self,
        module: nn.MultiheadAttention,
        args: tuple,
        kwargs: dict,
        output: Any,
    ) -> None:
        if self._loose is not None:
            self._loose.attention = None
        # In a stream or clip each projection reports itself.
        if output is None or any(map(_is_bound, module.children())):
            return
        names = 'query', 'key', 'value'
        named = {**kwargs, **dict(zip(names, args, strict=False))}
        macs = projection_macs(module, *(named[name] for name in names))
        self.ledger.record(module, macs, macs)

    def _multiply(
        self, layer: nn.Module, x: Tensor, bias: Tensor | None
    ) -> Tensor:
        """Count a product by the weight of a layer that is not called."""
        if _is_bound(layer):
            return F.linear(x, layer.weight, bias)
        self._enter(layer, (x,))
        output = F.linear(x, layer.weight, bias)
        self.ledger.leave_layer()
        macs = output.numel() * layer.in_features
        self.ledger.record(layer, macs, macs)
        return output


class _LooseProducts(TorchDispatchMode):
    """Notes matrix products and convolutions outside of counted layers.

    Args:
        ledger: Ledger that is told of them.

    Attributes:
        attention: Attention that is under way, whose projections are counted.
    """

    def __init__(self, ledger: MacLedger) -> None:
        super().__init__()
        self.ledger = ledger
        self.attention: nn.MultiheadAttention | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        # In-place variants end in an underscore.
        name = func.overloadpacket.__name__.rstrip('_')
        if (
            name in PRODUCTS
            and not self.ledger.in_layer
            and (name in ATTENTIONS or not self._projects(args))
        ):
            self.ledger.record_uncounted(f'aten.{name}')
        return func(*args, **(kwargs or {}))

    def _projects(self, args: tuple) -> bool:
        """Tell if an operand is a weight of the attention under way."""
        if self.attention is None:
            return False
        weights = {
            weight.untyped_storage()._cdata
            for weight in self.attention.parameters()
        }
        return any(
            arg.untyped_storage()._cdata in weights
            for arg in args
            if isinstance(arg, Tensor)
        )


def _is_bound(module: nn.Module) -> bool:
    """Tell if a module is a converted layer in a stream or clip."""
    return getattr(module, '_binding', None) is not None


def _inside_wholes(model: nn.Module) -> set[nn.Module]:
    """Find the modules inside of those that report for all they contain."""
    return {
        part
        for whole in model.modules()
        if isinstance(whole, CountedWhole)
        for part in whole.modules()
        if part is not whole
    }


def _nothing(*_: Any) -> None:
    """Stand in for the function of a hook that was copied."""

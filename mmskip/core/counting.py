"""``count_macs``: watch a model and fill a ledger."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.parametrize import is_parametrized
from torch.utils._python_dispatch import TorchDispatchMode

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

    What a composite module does with weights of its own (an attention's
    projections) shows up as products outside of layers.
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


class _Watch:
    """Holds the hooks of one ``count_macs`` block."""

    def __init__(self, model: nn.Module) -> None:
        names = list_counted(model)
        self.ledger = MacLedger(names)
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


class _LooseProducts(TorchDispatchMode):
    """Notes matrix products and convolutions outside of counted layers."""

    def __init__(self, ledger: MacLedger) -> None:
        super().__init__()
        self.ledger = ledger

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        # In-place variants end in an underscore.
        name = func.overloadpacket.__name__.rstrip('_')
        if name in PRODUCTS and not self.ledger.in_layer:
            self.ledger.record_uncounted(f'aten.{name}')
        return func(*args, **(kwargs or {}))


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

"""The C++ library, and the choice between it and torch.

The library registers its operators with torch (``torch.ops.mmskip``) and its
layers, call sites and plans as ``torch.classes.mmskip``. They work on float32
images on the CPU, channels last, with zeros as padding. Where it is not built
or is of other sources, :data:`MISSING` says why, and torch runs instead.
"""

import os
import zlib
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

BACKENDS = ('reference', 'native')
_LIBRARY = Path(__file__).with_name('_native.so')
#: Operators of the library and the number of their arguments, and methods of
#: its plans, as in csrc/library.cpp.
_OPERATORS = {
    'fingerprint': 2,
    'float_copy': 1,
    'instruction_sets': 0,
    'mix_options': 8,
    'relative_scale': 2,
    'round_to_bytes': 3,
    'soft_gate': 8,
}
_METHODS = {
    'add_conv': 6,
    'add_factor': 5,
    'add_crop': 5,
    'add_follow': 4,
    'add_join': 4,
    'add_mean': 4,
    'add_planned_conv': 10,
    'add_pool': 7,
    'add_scale': 5,
    'add_sum': 7,
    'begin': 3,
    'computed': 1,
    'remembered': 2,
    'run': 3,
}


def _load() -> str:
    """Load the library; returns why it is missing, nothing if it is not."""
    if not _LIBRARY.exists():
        return (
            'the C++ operators are not built (pip install '
            '--no-build-isolation -e . builds them, where torch and a C++ '
            'compiler are there)'
        )
    try:
        torch.ops.load_library(_LIBRARY)
        _check_age()
    except (OSError, RuntimeError) as error:
        # Not there, of another torch, or of other sources than these.
        return (
            f'the C++ operators cannot be loaded ({error}); build them anew '
            'with pip install --no-build-isolation -e .'
        )
    return ''


def _check_age() -> None:
    """Refuse a library of other sources, before a stream fails in it."""
    for name, count in _OPERATORS.items():
        if not hasattr(torch.ops.mmskip, name):
            raise RuntimeError(f'expected mmskip::{name}, got none')
        schema = getattr(torch.ops.mmskip, name).default._schema
        _check_count(name, schema, count)
    plan = torch.classes.mmskip.Plan(0)
    for name, count in _METHODS.items():
        _check_count(f'Plan.{name}', plan._get_method(name).schema, count)
    # Classes take the arguments of this version, or raise RuntimeError.
    classes = torch.classes.mmskip
    geometry = classes.ConvGeometry((1, 1), (0, 0, 0, 0), (1, 1), 1, False)
    gate = classes.Gate(0.0, 1, 1, None, None, None, 'residual')
    pixel = torch.zeros(1, 1, 1, 1)
    layer = classes.Layer(pixel, None, geometry, gate, False, None)
    classes.CallSite(layer, [pixel, pixel, pixel.flatten()])


def _check_count(name: str, schema: torch.FunctionSchema, count: int) -> None:
    if len(schema.arguments) != count:
        raise RuntimeError(
            f'expected mmskip::{name} with {count} arguments, got one with '
            f'{len(schema.arguments)}, of another version'
        )


#: The largest weight in bytes, as in csrc/kernels.h: two products of it with
#: the largest input can be added in 16 bits, as CPUs with AVX2 do.
MOST_WEIGHT = 63
#: Numbers that bytes stand for: byte b is (b - zero) * step, of (step, zero).
Grid = tuple[float, int]
#: Reason why there is no native backend; empty if there is one.
MISSING = _load()
#: Activations that layers apply to their outputs, by the library's names.
ACTIVATIONS = {
    'relu': F.relu,
    'silu': F.silu,
    'relu6': F.relu6,
    'hardswish': F.hardswish,
}
#: The name of another one begins so; its slope follows.
LEAKY_RELU = 'leaky_relu:'
#: The operators as torch registers them, see csrc.
soft_gate = None if MISSING else torch.ops.mmskip.soft_gate.default
relative_scale = None if MISSING else torch.ops.mmskip.relative_scale.default
mix_options = None if MISSING else torch.ops.mmskip.mix_options.default
#: A copy in float32, in the order of its values, by the threads of plans.
float_copy = None if MISSING else torch.ops.mmskip.float_copy.default
#: Makes the plan of a module, see csrc/plan.h, for a number of values.
new_plan = None if MISSING else torch.classes.mmskip.Plan


def instruction_sets() -> tuple[str, str, str]:
    """Name what the library multiplies float32, bfloat16 and int8 with.

    ``portable``, ``avx2`` or ``avx512``; of bfloat16 ``avx512_bf16``, of int8
    ``avx_vnni`` or ``avx512_vnni``, of both ``amx``, too. ``tiles`` are those
    of AMX, emulated to test them (``MMSKIP_TILES=emulated``).
    """
    floats, halves, bytes_ = torch.ops.mmskip.instruction_sets()
    return floats, halves, bytes_


@lru_cache(maxsize=1)
def has_halves() -> bool:
    """Tell if oneDNN multiplies in bfloat16 on this CPU."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def round_to_bytes(x: Tensor, grid: Grid) -> Tensor:
    """Round numbers to the bytes that stand for them; bytes stay.

    Args:
        x: Float32 or bfloat16, on the CPU.
        grid: Step and zero.

    Returns:
        In uint8; images that lie channels last stay so.
    """
    if x.dtype == torch.uint8:
        return x
    x = x.to(torch.bfloat16)
    if not MISSING:
        last = torch.channels_last
        if x.dim() != 4 or not x.is_contiguous(memory_format=last):
            x = x.contiguous()
        return torch.ops.mmskip.round_to_bytes(x, *grid)
    step, zero = grid
    whole = (x.float() / step).round_().add_(zero).clamp_(0, 255)
    return whole.to(torch.uint8)


def silu(x: Tensor) -> Tensor:
    """Compute SiLU as a plan does, which rounds another way than torch.

    Args:
        x: Float32 image (N, C, H, W) on the CPU.
    """
    result = torch.empty_like(x, memory_format=torch.channels_last)
    plan = new_plan(2)
    plan.put(0, x)
    plan.add_sum([0], 1, result, None, None, 'silu')
    plan.run(0, 1)
    return result


def mean(x: Tensor) -> Tensor:
    """Compute the mean over all positions as a plan does.

    Args:
        x: Float32 image (N, C, H, W) on the CPU.

    Returns:
        (N, C, 1, 1).
    """
    result = x.new_empty(*x.shape[:2], 1, 1)
    plan = new_plan(2)
    plan.put(0, x)
    plan.add_mean(0, 1, result)
    plan.run(0, 1)
    return result


def refusal(
    dims: int, padding_mode: str, dtype: torch.dtype, device: torch.device
) -> str | None:
    """Say why the native backend does not take a layer, None if it does.

    Args:
        dims: Spatial dimensions of the convolution.
        padding_mode: Padding mode of the convolution.
        dtype: Type of its weights.
        device: Device of its weights.
    """
    if dims != 2:
        return f'{dims}-D convolution'
    if padding_mode != 'zeros':
        return f'padding_mode={padding_mode!r}'
    if dtype != torch.float32:
        return f'dtype {str(dtype).removeprefix("torch.")}'
    if device.type != 'cpu':
        return f'on {device.type}'
    return None


def fingerprint(tensor: Tensor, words: int = 0) -> int:
    """Hash a tensor's values and their places, to notice any change.

    Torch counts the writes to a tensor, but not those through ``.data``, as
    the averaging of weights does. Only the values tell of these.

    Args:
        tensor: Tensor of any shape and dtype, on the CPU.
        words: Number of words of 4 bytes, spread over a larger tensor, that
            are read, which takes no time; 0 reads all.
    """
    if not MISSING:
        return torch.ops.mmskip.fingerprint(tensor.detach(), words)
    values = tensor.detach().contiguous().flatten().view(torch.uint8)
    return zlib.crc32(values.numpy())


def address_of(tensor: Tensor) -> int:
    """Tell where the values of a tensor are, on any device."""
    if tensor.is_cpu:
        return tensor.data_ptr()
    return tensor.untyped_storage()._cdata


def active_backend() -> str:
    """Name the backend that computes Skip-Convolutions.

    ``native`` computes in C++ only what fires; the default where it is
    built. ``reference`` masks a dense convolution with torch: exact,
    portable, and no faster than the dense model. The environment variable
    ``MMSKIP_BACKEND`` asks for one by name.

    Raises:
        ValueError: The variable names a backend that is not here.
    """
    wanted = os.environ.get('MMSKIP_BACKEND', '')
    if wanted == '':
        return 'reference' if MISSING else 'native'
    if wanted not in BACKENDS:
        raise ValueError(
            f'MMSKIP_BACKEND={wanted!r}: expected one of '
            f'{", ".join(BACKENDS)}; unset it to use the best one here'
        )
    if wanted == 'native' and MISSING:
        raise ValueError(
            f"MMSKIP_BACKEND='native': {MISSING}; unset it to use 'reference'"
        )
    return wanted


def runs_native(x: Tensor) -> bool:
    """Tell if an operation without a backward may take a tensor in C++.

    Args:
        x: The input of a layer.
    """
    return (
        is_exact_inference()
        and x.device.type == 'cpu'
        and x.dtype == torch.float32
        and active_backend() == 'native'
    )


def is_exact_inference() -> bool:
    """Tell if neither gradients nor the precision of autocast are wanted.

    The native backend has neither.
    """
    return not (torch.is_grad_enabled() or torch.is_autocast_enabled('cpu'))


def is_in_backward() -> bool:
    """Tell if autograd is running a backward."""
    return torch._C._current_graph_task_id() != -1


def activate_(output: Tensor, name: str | None) -> Tensor:
    """Apply an activation in place.

    Args:
        output: Any shape.
        name: A key of :data:`ACTIVATIONS`, ``leaky_relu:SLOPE``, or None,
            which leaves it as it is.
    """
    if name is None:
        return output
    if name.startswith(LEAKY_RELU):
        slope = float(name.removeprefix(LEAKY_RELU))
        return F.leaky_relu(output, slope, inplace=True)
    return ACTIVATIONS[name](output, inplace=True)

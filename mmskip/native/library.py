"""The C++ library: Skip-Convolutions that do not compute what is skipped.

The library registers its operators with torch (``torch.ops.mmskip``) and its
layers, call sites and plans as ``torch.classes.mmskip``. They work on float32
images on the CPU, channels last, with zeros as padding. Where it is not built
or is of other sources, :data:`MISSING` says why, and torch runs instead.
"""

import zlib
from pathlib import Path

import torch
from torch import Tensor

_LIBRARY = Path(__file__).with_name('_native.so')
#: Operators of the library and the number of their arguments, and methods of
#: its plans, as in csrc/library.cpp.
_OPERATORS = {
    'fingerprint': 2,
    'instruction_sets': 0,
    'mix_options': 8,
    'relative_scale': 2,
    'soft_gate': 8,
}
_METHODS = {
    'add_conv': 6,
    'add_follow': 4,
    'add_join': 4,
    'add_mean': 4,
    'add_planned_conv': 8,
    'add_pool': 7,
    'add_scale': 5,
    'add_sum': 7,
    'remembered': 2,
    'begin': 3,
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
    geometry = classes.ConvGeometry((1, 1), (0, 0, 0, 0), (1, 1), 1)
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


#: Reason why there is no native backend; empty if there is one.
MISSING = _load()
#: The operators as torch registers them, see csrc.
soft_gate = None if MISSING else torch.ops.mmskip.soft_gate.default
relative_scale = None if MISSING else torch.ops.mmskip.relative_scale.default
mix_options = None if MISSING else torch.ops.mmskip.mix_options.default
#: Makes the plan of a module, see csrc/plan.h, for a number of values.
new_plan = None if MISSING else torch.classes.mmskip.Plan


def instruction_sets() -> tuple[str, str]:
    """Name what the library multiplies float32 and bfloat16 with.

    ``portable``, ``avx2`` or ``avx512``, of bfloat16 ``avx512_bf16`` or
    ``amx``, too; ``tiles`` are those of AMX, emulated to test them
    (``MMSKIP_TILES=emulated``).
    """
    floats, halves = torch.ops.mmskip.instruction_sets()
    return floats, halves


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

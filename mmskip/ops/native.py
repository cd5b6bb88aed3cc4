"""Skip-Convolutions in C++: what is skipped is not computed.

The library registers its operators with torch (``torch.ops.mmskip``). They
work on float32 images on the CPU, channels last, with zeros as padding.
"""

from pathlib import Path

import torch
from torch import Tensor

from .gate_mask import GateParams, signal_norms
from .geometry import ConvGeometry

_LIBRARY = Path(__file__).with_name('_native.so')
#: Arguments of the operators and methods that have got new ones, with self,
#: as in csrc/library.cpp.
_ARGUMENTS = {
    'skip_frame': 22,
    'Board.add_conv': 26,
    'Board.add_mean': 4,
    'Board.add_pool': 7,
    'Board.add_sum': 7,
    'Board.begin_conv': 4,
    'relative_scale': 2,
    'fingerprint': 2,
    'soft_gate': 11,
    'mix_options': 11,
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
    board = torch.classes.mmskip.Board(0)
    for name in _ARGUMENTS:
        if name.startswith('Board.'):
            schema = board._get_method(name.removeprefix('Board.')).schema
        elif not hasattr(torch.ops.mmskip, name):
            raise RuntimeError(f'expected mmskip::{name}, got none')
        else:
            schema = getattr(torch.ops.mmskip, name).default._schema
        if len(schema.arguments) != _ARGUMENTS[name]:
            raise RuntimeError(
                f'expected mmskip::{name} with {_ARGUMENTS[name]} arguments, '
                f'got one with {len(schema.arguments)}, of another version'
            )


#: Why there is no native backend; empty if there is one.
MISSING = _load()
#: The operators as torch registers them, see csrc.
skip_frame = None if MISSING else torch.ops.mmskip.skip_frame.default
soft_gate = None if MISSING else torch.ops.mmskip.soft_gate.default
relative_scale = None if MISSING else torch.ops.mmskip.relative_scale.default
mix_options = None if MISSING else torch.ops.mmskip.mix_options.default
#: Makes the board of a part of a model, see csrc/board.h, of a given size.
new_board = None if MISSING else torch.classes.mmskip.Board


def silu(x: Tensor) -> Tensor:
    """SiLU as a plan computes it, which rounds another way than torch.

    Args:
        x: Float32 image (N, C, H, W) on the CPU.
    """
    result = torch.empty_like(x, memory_format=torch.channels_last)
    board = new_board(2)
    board.put(0, x)
    board.add_sum([0], 1, result, None, None, 'silu')
    board.run(0, 1)
    return result


def mean(x: Tensor) -> Tensor:
    """The mean over all positions as a board computes it.

    Args:
        x: Float32 image (N, C, H, W) on the CPU.

    Returns:
        (N, C, 1, 1).
    """
    result = x.new_empty(*x.shape[:2], 1, 1)
    board = new_board(2)
    board.put(0, x)
    board.add_mean(0, 1, result)
    board.run(0, 1)
    return result


def refusal(
    dims: int, padding_mode: str, dtype: torch.dtype, device: torch.device
) -> str | None:
    """Why the native backend does not take a layer, None if it does.

    Args:
        dims: Spatial dimensions of the convolution.
        padding_mode: Of the convolution.
        dtype: Of its weights.
        device: Of its weights.
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


class PackedWeight:
    """A kernel in the order in which the native operator reads it.

    It is packed anew when the kernel is written to or replaced. What writes
    past torch's version counters (``weight.data.copy_``) is noticed where
    all values are compared, in reference frames.
    """

    def __init__(self) -> None:
        self._source: Tensor | None = None
        self._version = 0
        self._fingerprint = 0
        self._packed: Tensor | None = None

    def get(self, weight: Tensor, groups: int, check: bool = False) -> Tensor:
        """The packed kernel.

        Args:
            weight: Kernel (C_out, C_in / groups, h, w).
            groups: Of the convolution.
            check: Compare its values, too, all of them.
        """
        print_of = torch.ops.mmskip.fingerprint
        # An inference tensor has no version: what it holds is read anew.
        version = -1 if weight.is_inference() else weight._version
        if (
            self._source is None
            or version < 0
            or self._version != version
            or self._source.data_ptr() != weight.data_ptr()
            or self._source.shape != weight.shape
            or (check and self._fingerprint != print_of(weight.detach(), 0))
        ):
            # Kept, so that no other tensor can get its address.
            self._source = weight.detach()
            self._version = version
            self._fingerprint = print_of(self._source, 0)
            self._packed = torch.ops.mmskip.pack_weight(self._source, groups)
        return self._packed


class NativeCall:
    """A call site with all that the native operator asks for but the frame.

    It is right as long as :meth:`holds` and :meth:`fits` say so.

    Args:
        shape: Of the input (N, C_in, H, W).
        memory: What the call site remembers: input and output, channels
            last, updated in place, and the gate's factor.
        weight: Kernel (C_out, C_in / groups, h, w).
        packed: The same as :class:`PackedWeight` keeps it.
        bias: (C_out,) or None.
        geometry: Of the layer.
        gate: The gate's parameters.
        rule: Which of the memories it is.
        activation: Of what is returned, see :func:`mmskip.ops.activate_`.
    """

    __slots__ = (
        '_activation',
        '_bias',
        '_gate',
        '_pointer',
        '_rule',
        '_source',
        '_version',
        'arguments',
        'shape',
    )

    def __init__(
        self,
        shape: torch.Size,
        memory: tuple[Tensor, Tensor, Tensor, Tensor | None],
        weight: Tensor,
        packed: Tensor,
        bias: Tensor | None,
        geometry: ConvGeometry,
        gate: GateParams,
        rule: str,
        activation: str | None,
    ) -> None:
        self.shape = shape
        self._bias = bias
        self._rule = rule
        self._activation = activation
        self._gate = gate
        self._version = -1 if weight.is_inference() else weight._version
        # Kept, so that no other tensor can get its address.
        self._source = weight.detach()
        self._pointer = weight.data_ptr()
        self.arguments = (
            *memory[:4],
            None if memory[3] is None else signal_norms(gate, weight),
            packed,
            bias,
            gate.region,
            tuple(weight.shape[2:]),
            geometry.stride,
            (*geometry.padding[0], *geometry.padding[1]),
            geometry.dilation,
            geometry.groups,
            # A tensor, so that graphs take any threshold.
            torch.tensor(gate.threshold, dtype=torch.float32),
            gate.block_size,
            gate.order,
            rule == 'accumulated',
            gate.weight,
            gate.bias,
            gate.sees,
            activation,
        )

    @property
    def memory(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """The memory of the call site: input, output, scale, count."""
        return self.arguments[:4]

    @property
    def norms(self) -> Tensor | None:
        """The units of a relative gate's level, by channel."""
        return self.arguments[4]

    @property
    def packed(self) -> Tensor:
        """The packed kernel."""
        return self.arguments[5]

    def fits(self, x: Tensor) -> bool:
        """Whether ``x`` may be a next frame."""
        return x.shape == self.shape and x.dtype is torch.float32 and x.is_cpu

    def holds(
        self,
        weight: Tensor,
        bias: Tensor | None,
        gate: GateParams,
        rule: str,
        activation: str | None,
    ) -> bool:
        """Whether the settings are those of the call."""
        return (
            gate is self._gate
            and bias is self._bias
            and rule == self._rule
            and activation == self._activation
            and self._version >= 0
            and weight.data_ptr() == self._pointer
            and weight._version == self._version
        )

    def run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute a frame that is no reference frame.

        Args:
            x: Input (N, C_in, H, W), any layout.

        Returns:
            Output (N, C_out, H_out, W_out), a copy; bool mask
            (N, 1, H_out, W_out).
        """
        return skip_frame(x, *self.arguments)

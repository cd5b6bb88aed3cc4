"""Skip-Convolutions in C++: what is skipped is not computed.

The library registers its operators with torch (``torch.ops.mmskip``). They
work on float32 images on the CPU, channels last, with zeros as padding.
"""

from pathlib import Path

import torch
from torch import Tensor

from .gate_mask import GateParams
from .geometry import ConvGeometry

_LIBRARY = Path(__file__).with_name('_native.so')


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
    except OSError as error:
        return (
            f'the C++ operators cannot be loaded ({error}); build them anew '
            'with pip install --no-build-isolation -e .'
        )
    return ''


#: Why there is no native backend; empty if there is one.
MISSING = _load()


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
    past torch's version counters (``weight.data.copy_``) is noticed in
    reference frames only.
    """

    def __init__(self) -> None:
        self._source: Tensor | None = None
        self._version = 0
        self._sum = 0.0
        self._packed: Tensor | None = None

    def get(self, weight: Tensor, groups: int, check: bool = False) -> Tensor:
        """The packed kernel.

        Args:
            weight: Kernel (C_out, C_in / groups, h, w).
            groups: Of the convolution.
            check: Compare its values, too.
        """
        # An inference tensor has no version: what it holds is read anew.
        version = -1 if weight.is_inference() else weight._version
        if (
            self._source is None
            or version < 0
            or self._version != version
            or self._source.data_ptr() != weight.data_ptr()
            or self._source.shape != weight.shape
            or (check and self._sum != _total(weight))
        ):
            # Kept, so that no other tensor can get its address.
            self._source = weight.detach()
            self._version = version
            self._sum = _total(weight)
            self._packed = torch.ops.mmskip.pack_weight(self._source, groups)
        return self._packed


def skip_frame(
    x: Tensor,
    reference: Tensor,
    output: Tensor,
    scale: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    kernel_size: tuple[int, int],
    geometry: ConvGeometry,
    gate: GateParams,
    accumulated: bool,
) -> tuple[Tensor, Tensor]:
    """Compute one frame that is no reference frame.

    Args:
        x: Input (N, C_in, H, W), any layout.
        reference: The remembered input; updated in place, channels last.
        output: The remembered output; updated in place, channels last.
        scale: The gate's factor.
        weight: The kernel as packed by :class:`PackedWeight`.
        bias: (C_out,) or None.
        kernel_size: Of the layer.
        geometry: Of the layer.
        gate: A norm gate, or a region in which all outputs fire.
        accumulated: Which of the memories it is.

    Returns:
        Output (N, C_out, H_out, W_out), a copy; bool mask
        (N, 1, H_out, W_out).
    """
    return torch.ops.mmskip.skip_frame.default(
        x,
        reference,
        output,
        scale,
        weight,
        bias,
        gate.region,
        kernel_size,
        geometry.stride,
        [*geometry.padding[0], *geometry.padding[1]],
        geometry.dilation,
        geometry.groups,
        gate.threshold,
        gate.block_size,
        gate.order,
        accumulated,
        '',
    )


def _total(weight: Tensor) -> float:
    return weight.detach().sum().item()

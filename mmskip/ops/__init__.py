"""Pure tensor functions: no modules, no registry, no state."""

from . import native
from .activation import activate_
from .backend import active_backend, runs_native
from .dynamic_conv import Mix, dynamic_conv, dynamic_macs
from .gate_mask import (
    Folding,
    GateParams,
    block_mask,
    gate_logits,
    gate_macs,
    gate_mask,
    gate_scale,
    gate_statistic,
    relative_scale,
    signal_norms,
)
from .geometry import ConvGeometry, convolve, cover_sum, support_sum
from .layout import follow_layout, is_channels_last
from .low_rank import factorize, full_rank, recompose, singular_values
from .modes import is_exact_inference, is_in_backward
from .native import address_of, fingerprint
from .option_tables import (
    CheapKernels,
    OptionTables,
    TableKey,
    option_tables,
)
from .option_terms import option_sizes
from .skip_clip import skip_clip
from .skip_conv import (
    MEMORY_RULES,
    SkipMemory,
    native_call,
    skip_conv,
    skip_frames,
)
from .straight_through import open_gate, sample_gate, straight_through
from .warp import WARP_MACS, WarpedMemory, warp, warp_memory

__all__ = [
    'MEMORY_RULES',
    'WARP_MACS',
    'CheapKernels',
    'ConvGeometry',
    'Folding',
    'GateParams',
    'Mix',
    'OptionTables',
    'SkipMemory',
    'TableKey',
    'WarpedMemory',
    'activate_',
    'active_backend',
    'address_of',
    'block_mask',
    'convolve',
    'cover_sum',
    'dynamic_conv',
    'dynamic_macs',
    'factorize',
    'fingerprint',
    'follow_layout',
    'full_rank',
    'gate_logits',
    'gate_macs',
    'gate_mask',
    'gate_scale',
    'gate_statistic',
    'is_channels_last',
    'is_exact_inference',
    'is_in_backward',
    'native',
    'native_call',
    'open_gate',
    'option_sizes',
    'option_tables',
    'recompose',
    'relative_scale',
    'runs_native',
    'sample_gate',
    'signal_norms',
    'singular_values',
    'skip_clip',
    'skip_conv',
    'skip_frames',
    'straight_through',
    'support_sum',
    'warp',
    'warp_memory',
]

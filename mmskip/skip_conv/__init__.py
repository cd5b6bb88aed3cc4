"""Skip-Convolutions (CVPR 2021): compute what changed since the last frame."""

from .conversion import GateCostLoss, SkipConversion
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
from .gates import (
    Gate,
    GumbelGate,
    GumbelNormGate,
    InputNormGate,
    LearnedNormGate,
    NormGate,
    OutputNormGate,
    as_gate,
)
from .layer import SkipConv2d, SkipConv3d, SkipConvMixin
from .linear import SkipConvTranspose2d, SkipLinear, SkipLinearMixin
from .motion import (
    WARP_MACS,
    HomographyMotion,
    Motion,
    WarpedMemory,
    warp,
    warp_memory,
)
from .native_layer import MEMORY_RULES, SkipParams
from .reference import (
    HeldMemory,
    SkipMemory,
    native_call,
    skip_clip,
    skip_conv,
    skip_frames,
)
from .state import StreamPolicy, StreamState
from .stream import Binding, ClipBinding, StreamBinding, clip, stream, streams

__all__ = [
    'MEMORY_RULES',
    'WARP_MACS',
    'Binding',
    'ClipBinding',
    'Folding',
    'Gate',
    'GateCostLoss',
    'GateParams',
    'GumbelGate',
    'GumbelNormGate',
    'HeldMemory',
    'HomographyMotion',
    'InputNormGate',
    'LearnedNormGate',
    'Motion',
    'NormGate',
    'OutputNormGate',
    'SkipConv2d',
    'SkipConv3d',
    'SkipConvMixin',
    'SkipConvTranspose2d',
    'SkipConversion',
    'SkipLinear',
    'SkipLinearMixin',
    'SkipMemory',
    'SkipParams',
    'StreamBinding',
    'StreamPolicy',
    'StreamState',
    'WarpedMemory',
    'as_gate',
    'block_mask',
    'clip',
    'gate_logits',
    'gate_macs',
    'gate_mask',
    'gate_scale',
    'gate_statistic',
    'native_call',
    'relative_scale',
    'signal_norms',
    'skip_clip',
    'skip_conv',
    'skip_frames',
    'stream',
    'streams',
    'warp',
    'warp_memory',
]

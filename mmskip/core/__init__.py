"""The foundation of all methods: layers, conversion, the ledger of MACs."""

from .convert import (
    ConvConversion,
    Conversion,
    ConversionReport,
    build_converted_model,
    convert,
    list_reasons,
    refuse_bypasses,
    refuse_unknown,
    revert,
)
from .counting import count_macs
from .layer import (
    Converted,
    CostCollector,
    CountedWhole,
    GateCost,
    SelfCounting,
    dense_macs,
    follow_layout,
    follow_mode,
    in_turns,
    is_channels_last,
    lay_kernels_last,
    samples_together,
)
from .ledger import FrameSkipper, LedgerReader, MacCount, MacLedger
from .straight_through import (
    draw_gate,
    open_gate,
    sample_gate,
    straight_through,
)

__all__ = [
    'ConvConversion',
    'Conversion',
    'ConversionReport',
    'Converted',
    'CostCollector',
    'CountedWhole',
    'FrameSkipper',
    'GateCost',
    'LedgerReader',
    'MacCount',
    'MacLedger',
    'SelfCounting',
    'build_converted_model',
    'convert',
    'count_macs',
    'dense_macs',
    'draw_gate',
    'follow_layout',
    'follow_mode',
    'in_turns',
    'is_channels_last',
    'lay_kernels_last',
    'list_reasons',
    'open_gate',
    'refuse_bypasses',
    'refuse_unknown',
    'revert',
    'sample_gate',
    'samples_together',
    'straight_through',
]

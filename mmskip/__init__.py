"""mmskip: video models that do not compute what is redundant."""

from . import compat

compat.apply()

from .convert import (  # noqa: E402  (after the host stack is mended)
    ConversionReport,
    DynamicConversion,
    L0Conversion,
    SkipConversion,
    SVDConversion,
    convert,
    revert,
)
from .layers import (  # noqa: E402
    DynamicConv2d,
    DynamicConv3d,
    SkipConv2d,
    SkipConv3d,
)
from .runtime import (  # noqa: E402
    MacCount,
    StreamState,
    clip,
    count_macs,
    fold,
    force_choices,
    propagate_changes,
    record_choices,
    stream,
)

__version__ = '0.1.0'

__all__ = [
    'ConversionReport',
    'DynamicConv2d',
    'DynamicConv3d',
    'DynamicConversion',
    'L0Conversion',
    'MacCount',
    'SVDConversion',
    'SkipConv2d',
    'SkipConv3d',
    'SkipConversion',
    'StreamState',
    '__version__',
    'clip',
    'convert',
    'count_macs',
    'fold',
    'force_choices',
    'propagate_changes',
    'record_choices',
    'revert',
    'stream',
]

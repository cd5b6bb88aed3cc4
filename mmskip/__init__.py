"""mmskip: video models that do not compute what is redundant."""

from . import compat

compat.apply()

from .convert import (  # noqa: E402  (after the host stack is mended)
    ConversionReport,
    SkipConversion,
    convert,
    revert,
)
from .layers import SkipConv2d, SkipConv3d  # noqa: E402
from .runtime import (  # noqa: E402
    MacCount,
    StreamState,
    clip,
    count_macs,
    stream,
)

__version__ = '0.1.0'

__all__ = [
    'ConversionReport',
    'MacCount',
    'SkipConv2d',
    'SkipConv3d',
    'SkipConversion',
    'StreamState',
    '__version__',
    'clip',
    'convert',
    'count_macs',
    'revert',
    'stream',
]

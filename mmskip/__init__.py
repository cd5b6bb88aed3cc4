"""mmskip: video models that do not compute what is redundant."""

from importlib import import_module
from typing import Any

from . import compat

compat.apply()

from .compression import (  # noqa: E402  (after the host stack is mended)
    L0Conversion,
    SVDConversion,
)
from .core import (  # noqa: E402
    ConversionReport,
    MacCount,
    convert,
    count_macs,
    revert,
)
from .plan import AccelerationReport, accelerate, fold  # noqa: E402
from .skip_conv import (  # noqa: E402
    GumbelGate,
    InputNormGate,
    OutputNormGate,
    SkipConv2d,
    SkipConv3d,
    SkipConversion,
    SkipConvTranspose2d,
    SkipLinear,
    StreamPolicy,
    StreamState,
    clip,
    stream,
)
from .va_red2 import (  # noqa: E402
    DynamicConv2d,
    DynamicConv3d,
    DynamicConversion,
    force_routing,
    record_routing,
)

__version__ = '0.2.0'

__all__ = [
    'AccelerationReport',
    'ClipDataset',
    'ComputeCost',
    'ConversionReport',
    'DynamicConv2d',
    'DynamicConv3d',
    'DynamicConversion',
    'GumbelGate',
    'InputNormGate',
    'L0Conversion',
    'MacCount',
    'OutputNormGate',
    'SVDConversion',
    'SkipConv2d',
    'SkipConv3d',
    'SkipConvTranspose2d',
    'SkipConversion',
    'SkipLinear',
    'SoFRecognizer',
    'StreamPolicy',
    'StreamState',
    'VideoHook',
    'VideoOrderSampler',
    '__version__',
    'accelerate',
    'clip',
    'convert',
    'count_macs',
    'fold',
    'force_routing',
    'record_routing',
    'revert',
    'stream',
]

#: Imported when they are asked for: their packages need mmdet and the like.
_LAZY = {
    'ClipDataset': 'mmskip.datasets',
    'ComputeCost': 'mmskip.evaluation',
    'SoFRecognizer': 'mmskip.sof_net',
    'VideoHook': 'mmskip.engine',
    'VideoOrderSampler': 'mmskip.datasets',
}
_RENAMED = {
    'force_choices': 'force_routing',
    'propagate_changes': 'accelerate',
    'record_choices': 'record_routing',
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    message = f'module {__name__!r} has no attribute {name!r}'
    if name in _RENAMED:
        message += f'; use mmskip.{_RENAMED[name]}'
    raise AttributeError(message)

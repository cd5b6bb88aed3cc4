"""Convert a stock model in place, and undo it."""

from .convert import Conversion, convert, revert
from .converted_model import build_converted_model
from .dynamic import DynamicConversion
from .report import ConversionReport
from .skip_conversion import SkipConversion

__all__ = [
    'Conversion',
    'ConversionReport',
    'DynamicConversion',
    'SkipConversion',
    'build_converted_model',
    'convert',
    'revert',
]

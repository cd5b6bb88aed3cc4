"""Convert a stock model in place, and undo it."""

from .convert import Conversion, convert, revert
from .converted_model import build_converted_model
from .dynamic import DynamicConversion
from .l0 import L0Conversion
from .rank_selection import Spectrum, choose_ranks, measure_spectra
from .report import ConversionReport
from .skip_conversion import SkipConversion
from .svd import SVDConversion

__all__ = [
    'Conversion',
    'ConversionReport',
    'DynamicConversion',
    'L0Conversion',
    'SVDConversion',
    'SkipConversion',
    'Spectrum',
    'build_converted_model',
    'choose_ranks',
    'convert',
    'measure_spectra',
    'revert',
]

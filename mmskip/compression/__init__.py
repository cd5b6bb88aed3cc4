"""Compression by SVD and L0 pruning, which composes with skipping."""

from .factorized_conv import (
    SVD_METHODS,
    FactorizedConv,
    factorize,
    factorize_conv,
    full_rank,
    macs_per_rank,
    recompose,
    singular_values,
    split_of,
)
from .l0 import (
    HardConcreteGate,
    L0Conv2d,
    L0Conv3d,
    L0Conversion,
    L0ConvMixin,
    L0Loss,
)
from .svd import Spectrum, SVDConversion, choose_ranks, measure_spectra

__all__ = [
    'SVD_METHODS',
    'FactorizedConv',
    'HardConcreteGate',
    'L0Conv2d',
    'L0Conv3d',
    'L0ConvMixin',
    'L0Conversion',
    'L0Loss',
    'SVDConversion',
    'Spectrum',
    'choose_ranks',
    'factorize',
    'factorize_conv',
    'full_rank',
    'macs_per_rank',
    'measure_spectra',
    'recompose',
    'singular_values',
    'split_of',
]

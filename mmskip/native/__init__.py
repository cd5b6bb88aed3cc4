"""The C++ library and its Python face: operators, geometry, backends."""

from .geometry import ConvGeometry, convolve, cover_sum, support_sum
from .library import (
    activate_,
    active_backend,
    address_of,
    fingerprint,
    is_exact_inference,
    is_in_backward,
    runs_native,
)
from .packed import Finish, LowKernels, PackedKernels, activate

__all__ = [
    'ConvGeometry',
    'Finish',
    'LowKernels',
    'PackedKernels',
    'activate',
    'activate_',
    'active_backend',
    'address_of',
    'convolve',
    'cover_sum',
    'fingerprint',
    'is_exact_inference',
    'is_in_backward',
    'runs_native',
    'support_sum',
]

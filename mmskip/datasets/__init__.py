"""Datasets, samplers and toy data."""

import warnings
from importlib.util import find_spec

from .video_order_sampler import VideoOrderSampler

__all__ = ['VideoOrderSampler']

try:
    from .ua_detrac import UADETRACDataset

    __all__ += ['UADETRACDataset']
except (ImportError, AssertionError) as error:
    # mmdet refuses by an AssertionError to work with other releases of mmcv.
    if find_spec('mmdet') is not None:
        warnings.warn(
            f'mmdet is installed but cannot be imported ({error}), so '
            'UADETRACDataset is not available',
            stacklevel=2,
        )

"""Weights of ONNX exports for models of mmdet, and the proof that they fit."""

from .export import Export
from .layers import match, refine
from .model import build_model, check_filled, check_size, fill, trace
from .parity import check_parity

__all__ = [
    'Export',
    'build_model',
    'check_filled',
    'check_parity',
    'check_size',
    'fill',
    'match',
    'refine',
    'trace',
]

"""Time a part of a model on video frames, dense and skipping."""

from .forced_masks import (
    PATTERNS,
    RegionGate,
    converted,
    force,
    output_sizes,
    region,
)
from .frames import forced_frames, video_frames
from .pairs import Pair, build_pair, compile_pair
from .report import show, write
from .times import best_of_pairs, break_even, measure, time_layers

__all__ = [
    'PATTERNS',
    'Pair',
    'RegionGate',
    'best_of_pairs',
    'break_even',
    'build_pair',
    'compile_pair',
    'converted',
    'force',
    'forced_frames',
    'measure',
    'output_sizes',
    'region',
    'show',
    'time_layers',
    'video_frames',
    'write',
]

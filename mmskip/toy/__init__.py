"""Toy data sets that are written to disk in the layout of the originals."""

from .activitynet import make_toy_activitynet
from .folder import pan_video
from .hmdb51 import (
    ClassVideos,
    make_toy_hmdb51,
    make_toy_jhmdb,
    make_toy_sub_jhmdb,
)
from .kinetics import make_toy_kinetics
from .ua_detrac import Sequences, make_toy_ua_detrac

__all__ = [
    'ClassVideos',
    'Sequences',
    'make_toy_activitynet',
    'make_toy_hmdb51',
    'make_toy_jhmdb',
    'make_toy_kinetics',
    'make_toy_sub_jhmdb',
    'make_toy_ua_detrac',
    'pan_video',
]

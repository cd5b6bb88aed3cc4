"""Hooks of mmengine that stream videos, count their cost and train gates."""

from .hooks import (
    BatchNormHook,
    ChannelsLastHook,
    ClipCostHook,
    IterSeedHook,
    Stopwatch,
    StopwatchReader,
    TemperatureHook,
    VideoTimerHook,
    WarmUpHook,
)
from .video_hook import VideoHook

__all__ = [
    'BatchNormHook',
    'ChannelsLastHook',
    'ClipCostHook',
    'IterSeedHook',
    'Stopwatch',
    'StopwatchReader',
    'TemperatureHook',
    'VideoHook',
    'VideoTimerHook',
    'WarmUpHook',
]

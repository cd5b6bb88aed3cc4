"""Hooks of mmengine that stream videos, count their cost and train gates."""

from .cost_hooks import (
    ClipCostHook,
    Stopwatch,
    StopwatchReader,
    VideoTimerHook,
)
from .training_hooks import (
    BatchNormHook,
    ChannelsLastHook,
    IterSeedHook,
    TemperatureHook,
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

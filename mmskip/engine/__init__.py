"""mmengine hooks."""

from .temperature_hook import TemperatureHook
from .video_hook import VideoHook
from .warm_up_hook import WarmUpHook

__all__ = ['TemperatureHook', 'VideoHook', 'WarmUpHook']

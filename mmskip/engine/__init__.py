"""mmengine hooks."""

from .video_hook import VideoHook
from .video_timer_hook import VideoTimerHook

__all__ = ['VideoHook', 'VideoTimerHook']

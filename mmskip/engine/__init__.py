"""mmengine hooks."""

from .channels_last_hook import ChannelsLastHook
from .iter_seed_hook import IterSeedHook
from .video_hook import VideoHook
from .video_timer_hook import VideoTimerHook

__all__ = [
    'ChannelsLastHook',
    'IterSeedHook',
    'VideoHook',
    'VideoTimerHook',
]

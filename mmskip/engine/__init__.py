"""mmengine hooks."""

from .channels_last_hook import ChannelsLastHook
from .iter_seed_hook import IterSeedHook
from .video_hook import VideoHook

__all__ = ['ChannelsLastHook', 'IterSeedHook', 'VideoHook']

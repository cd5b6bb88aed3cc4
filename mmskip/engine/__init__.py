"""mmengine hooks."""

from .channels_last_hook import ChannelsLastHook
from .video_hook import VideoHook

__all__ = ['ChannelsLastHook', 'VideoHook']

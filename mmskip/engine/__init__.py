"""mmengine hooks."""

from .iter_seed_hook import IterSeedHook
from .video_hook import VideoHook

__all__ = ['IterSeedHook', 'VideoHook']

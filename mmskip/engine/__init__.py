"""mmengine hooks."""

from .video_hook import VideoHook

__all__ = ['VideoHook']

"""mmengine hooks."""

from .batch_norm_hook import BatchNormHook
from .channels_last_hook import ChannelsLastHook
from .clip_cost_hook import ClipCostHook
from .iter_seed_hook import IterSeedHook
from .temperature_hook import TemperatureHook
from .video_hook import VideoHook
from .video_timer_hook import VideoTimerHook
from .warm_up_hook import WarmUpHook

__all__ = [
    'BatchNormHook',
    'ChannelsLastHook',
    'ClipCostHook',
    'IterSeedHook',
    'TemperatureHook',
    'VideoHook',
    'VideoTimerHook',
    'WarmUpHook',
]

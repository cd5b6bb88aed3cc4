"""SoF-Net: frames stop at a stage or go forward (needs mmaction2)."""

from .early_exit import EarlyExit
from .frame_choice import EveryKthFrame, RandomFrames

__all__ = ['EarlyExit', 'EveryKthFrame', 'RandomFrames']

try:
    from .recognizer import SoFRecognizer
    from .stages import list_stages
    from .stream import Answer, SoFStream

    __all__ += ['Answer', 'SoFRecognizer', 'SoFStream', 'list_stages']
except (ImportError, AssertionError):  # told in mmskip.models
    pass

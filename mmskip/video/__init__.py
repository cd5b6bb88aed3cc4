"""Video in and results out: sources, live cameras, files of results."""

from .frame import Frame, FrameResult
from .metrics import Metrics
from .reader import FrameReader, open_reader
from .results import ResultLog, ResultVideo
from .tracks import Tracker
from .writer import VideoWriter

__all__ = [
    'Frame',
    'FrameReader',
    'FrameResult',
    'Metrics',
    'ResultLog',
    'ResultVideo',
    'Tracker',
    'VideoWriter',
    'open_reader',
]

"""Video in and results out: sources, live cameras, files of results."""

from .frame import Frame, FrameResult
from .reader import FrameReader, open_reader
from .results import ResultLog, ResultVideo
from .writer import VideoWriter

__all__ = [
    'Frame',
    'FrameReader',
    'FrameResult',
    'ResultLog',
    'ResultVideo',
    'VideoWriter',
    'open_reader',
]

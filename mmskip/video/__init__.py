"""Video in and results out: sources, live cameras, files of results."""

from .frame import Frame, FrameResult
from .logs import ResultLog, read_results
from .reader import FrameReader, open_reader
from .results import ResultVideo, ShowWindow, check_outputs
from .writer import VideoWriter

__all__ = [
    'Frame',
    'FrameReader',
    'FrameResult',
    'ResultLog',
    'ResultVideo',
    'ShowWindow',
    'VideoWriter',
    'check_outputs',
    'open_reader',
    'read_results',
]

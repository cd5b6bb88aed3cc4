"""Video in and results out: sources, live cameras, files of results."""

from .frame import Frame, FrameResult
from .health import FrameHealth, HealthLimits
from .live import LiveOptions, LiveReader
from .logs import ResultLog, read_results
from .reader import FrameReader, read_ahead
from .results import ResultVideo, ShowWindow, check_outputs
from .sources import local_path, open_reader
from .writer import VideoWriter

__all__ = [
    'Frame',
    'FrameHealth',
    'FrameReader',
    'FrameResult',
    'HealthLimits',
    'LiveOptions',
    'LiveReader',
    'ResultLog',
    'ResultVideo',
    'ShowWindow',
    'VideoWriter',
    'check_outputs',
    'local_path',
    'open_reader',
    'read_ahead',
    'read_results',
]

"""Video in and results out: sources, live cameras, files of results."""

from .frame import Frame, FrameResult
from .health import FrameHealth, HealthLimits
from .live import LiveOptions, LiveReader
from .reader import FrameReader, read_ahead
from .results import ResultLog, ResultVideo
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
    'VideoWriter',
    'local_path',
    'open_reader',
    'read_ahead',
]

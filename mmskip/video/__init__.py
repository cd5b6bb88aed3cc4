"""Video in and results out: sources, live cameras, files of results."""

from .frame import Frame, FrameResult
<<<<<<< HEAD
from .health import FrameHealth, HealthLimits
from .live import LiveOptions, LiveReader
from .logs import ResultLog, read_results
from .reader import FrameReader, read_ahead
from .results import ResultVideo, ShowWindow, check_outputs
from .sources import local_path, open_reader
=======
from .metrics import Metrics
from .reader import FrameReader, open_reader
from .results import ResultLog, ResultVideo
from .tracks import Tracker
>>>>>>> tracks
from .writer import VideoWriter

__all__ = [
    'Frame',
    'FrameHealth',
    'FrameReader',
    'FrameResult',
<<<<<<< HEAD
    'HealthLimits',
    'LiveOptions',
    'LiveReader',
    'ResultLog',
    'ResultVideo',
    'ShowWindow',
=======
    'Metrics',
    'ResultLog',
    'ResultVideo',
    'Tracker',
>>>>>>> tracks
    'VideoWriter',
    'check_outputs',
    'local_path',
    'open_reader',
    'read_ahead',
    'read_results',
]

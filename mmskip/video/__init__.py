"""Video in and results out: sources, live cameras, files of results."""

from .health import FrameHealth, HealthLimits, Metrics
from .logs import ResultLog, read_results
from .reader import Frame, FrameReader, FrameResult, read_ahead
from .regions import Region
from .results import (
    ResultVideo,
    ShowWindow,
    ShowWindows,
    check_display,
    check_outputs,
)
from .sources import LiveOptions, LiveReader, local_path, open_reader
from .tracks import Tracker
from .writer import VideoWriter

__all__ = [
    'Frame',
    'FrameHealth',
    'FrameReader',
    'FrameResult',
    'HealthLimits',
    'LiveOptions',
    'LiveReader',
    'Metrics',
    'Region',
    'ResultLog',
    'ResultVideo',
    'ShowWindow',
    'ShowWindows',
    'Tracker',
    'VideoWriter',
    'check_display',
    'check_outputs',
    'local_path',
    'open_reader',
    'read_ahead',
    'read_results',
]

"""Run a model of any host over a video file, a camera or a folder."""

from mmskip.apis.config import import_host, load_config
from mmskip.apis.errors import UserError
from mmskip.apis.fast import make_fast
from mmskip.apis.frame_pipeline import FramePipeline
from mmskip.apis.loading import init_model
from mmskip.apis.result_files import ResultLog, ResultVideo
from mmskip.apis.totals import StreamProgress, StreamTotals
from mmskip.apis.video_reader import Frame, FrameReader, open_reader
from mmskip.apis.video_stream import FrameResult, is_converted, stream_video
from mmskip.apis.video_writer import VideoWriter

__all__ = [
    'Frame',
    'FramePipeline',
    'FrameReader',
    'FrameResult',
    'ResultLog',
    'ResultVideo',
    'StreamProgress',
    'StreamTotals',
    'UserError',
    'VideoWriter',
    'import_host',
    'init_model',
    'is_converted',
    'load_config',
    'make_fast',
    'open_reader',
    'stream_video',
]

"""Run a model of any host over a video file, a camera or a folder."""

from mmskip.video import (
    Frame,
    FrameReader,
    FrameResult,
    ResultLog,
    ResultVideo,
    VideoWriter,
    open_reader,
)

from .errors import UserError
from .frame_stream import (
    FramePipeline,
    FrameStream,
    SharedModel,
    is_converted,
)
from .models import import_host, init_model, load_config
from .people import PeoplePose
from .video_stream import StreamProgress, StreamTotals, stream_video
from .zoo import (
    Limits,
    ZooRow,
    check_model,
    cover_model,
    run_models,
)
from .zoo_models import ZooModel, config_paths, group_models

__all__ = [
    'Frame',
    'FramePipeline',
    'FrameReader',
    'FrameResult',
    'FrameStream',
    'Limits',
    'PeoplePose',
    'ResultLog',
    'ResultVideo',
    'SharedModel',
    'StreamProgress',
    'StreamTotals',
    'UserError',
    'VideoWriter',
    'ZooModel',
    'ZooRow',
    'check_model',
    'config_paths',
    'cover_model',
    'group_models',
    'import_host',
    'init_model',
    'is_converted',
    'load_config',
    'open_reader',
    'run_models',
    'stream_video',
]

"""Run a detector or pose estimator over videos, skipping what is unchanged.

A source is a video file, a folder of images, the number of a camera or a
network address; several of them share one model, each with a stream of its
own. Of a live source the newest frame is taken, and a connection that is lost
is opened again. At a scene cut or when the picture changes all the time the
stream takes reference frames, which are counted; --no-restarts leaves that
out.

Exit codes: 0 done; 1 a source ended early (a truncated file, a camera that
went away) or one of several cameras failed; 2 a mistake in the arguments or
files; 130 interrupted, by Ctrl-C, SIGTERM or SIGHUP, also while a camera
hangs. What was written until then is complete and playable in each case.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import cv2
from rich.console import Console
from rich.table import Table
from torch import nn

import mmskip
from mmskip import apis
from mmskip.apis.cameras import (
    Camera,
    CameraOptions,
    Cameras,
    Sink,
    name_cameras,
    read_cameras,
)
from mmskip.apis.errors import (
    EXIT_INCOMPLETE,
    EXIT_INTERRUPTED,
    EXIT_OK,
    explain_mistake,
    run_tool,
)
from mmskip.apis.launch import add_model_arguments, check_model_arguments
from mmskip.apis.models import accelerate_model
from mmskip.apis.people import PeoplePose
from mmskip.native import active_backend
from mmskip.reading import InputError
from mmskip.video import (
    LiveOptions,
    ShowWindows,
    check_display,
    check_outputs,
)
from mmskip.video.health import Metrics
from mmskip.video.regions import read_polygon
from mmskip.video.tracks import LOW_SCORE, Tracker
from mmskip.visualization import PredictionDrawer

#: Powers of 1024 and of 1000.
UNITS = {'': 1, 'MiB': 2**20, 'GiB': 2**30, 'MB': 10**6, 'GB': 10**9}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_arguments(parser)
    parser.add_argument(
        'sources',
        nargs='*',
        metavar='source',
        help='video file, folder of images, camera number, address',
    )
    add_camera_options(parser)
    add_output_options(parser)
    add_stream_options(parser)
    args = parser.parse_args(argv)
    args.sources += args.source
    check_args(parser, args)
    return args


def add_camera_options(parser: argparse.ArgumentParser) -> None:
    """Add what a user says of the cameras."""
    group = parser.add_argument_group('cameras')
    group.add_argument(
        '--source', action='append', default=[], help='one more source'
    )
    group.add_argument(
        '--cameras',
        metavar='YAML',
        help='a list of cameras, each with source and, if it is to differ '
        'from the command line, name, out, results, region, ignore, bbox',
    )
    group.add_argument(
        '--region',
        type=read_polygon,
        action='append',
        default=[],
        metavar='X1,Y1,X2,Y2,...',
        help='polygon around what is watched, in pixels or in shares of '
        'width and height; outside nothing is computed nor found',
    )
    group.add_argument(
        '--ignore',
        action='append',
        default=[],
        metavar='MASK',
        help='what is not watched: a polygon as in --region, or a picture '
        'that is white there and black elsewhere',
    )
    group.add_argument(
        '--wait',
        action='store_true',
        help='wait for cameras that are not there at the start',
    )
    group.add_argument(
        '--max-frames', type=int, help='of each camera: stop after these'
    )
    group.add_argument(
        '--workers',
        type=int,
        help='threads that run the model, each with a copy of it; default '
        'as many as cameras, or cores if those are fewer',
    )
    group.add_argument(
        '--max-memory',
        type=read_bytes,
        metavar='SIZE',
        help='of the memory of all streams, such as 4GiB; a camera that '
        'would take more is refused',
    )


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add where results go; {name} stands for the name of a camera."""
    group = parser.add_argument_group(
        'outputs', 'with several cameras {name} stands for that of each'
    )
    group.add_argument(
        '--out', help='annotated video to write (.mp4, .mkv, .mov, .avi)'
    )
    group.add_argument(
        '--json',
        dest='results',
        nargs='+',
        default=[],
        metavar='FILE',
        help='files for predictions and costs: .jsonl (JSON Lines), .json '
        '(one document), .csv, .txt (MOTChallenge, with --track)',
    )
    group.add_argument(
        '--rotate',
        metavar='EVERY',
        help="begin another file of results every 'hour', or by size, such "
        'as 64MB',
    )
    group.add_argument(
        '--classes',
        nargs='+',
        metavar='NAME',
        help='objects to find, such as person; default all that the '
        'detector knows',
    )
    group.add_argument(
        '--track',
        action='store_true',
        help='give objects an id that stays the same',
    )
    group.add_argument(
        '--track-score',
        type=float,
        metavar='SCORE',
        help='objects found with a higher score begin a track (0.7), with '
        '--track or --pose; lower it for a detector whose scores are low',
    )
    group.add_argument(
        '--show',
        action='store_true',
        help='show the pictures in a window; close it or press q to end',
    )
    group.add_argument(
        '--metrics-port',
        type=int,
        metavar='PORT',
        help='serve figures for Prometheus',
    )
    group.add_argument(
        '--metrics-host',
        default='127.0.0.1',
        metavar='HOST',
        help='who may ask for them: this machine alone (default), or all '
        'with 0.0.0.0',
    )
    group.add_argument(
        '--fps', type=float, help="of the video; default the source's own"
    )
    group.add_argument(
        '--show-mask',
        action='store_true',
        default=True,
        help='tint the pixels that were computed (default)',
    )
    group.add_argument('--no-mask', dest='show_mask', action='store_false')


def add_stream_options(parser: argparse.ArgumentParser) -> None:
    """Add how the streams are run."""
    group = parser.add_argument_group('streams')
    group.add_argument(
        '--pose',
        nargs=2,
        metavar=('CONFIG', 'CHECKPOINT'),
        help='a top-down pose estimator for each person that the detector '
        'finds; people are tracked',
    )
    group.add_argument(
        '--reset-interval',
        type=int,
        metavar='N',
        help='take a reference frame after every N frames',
    )
    group.add_argument(
        '--no-restarts',
        action='store_true',
        help='take no reference frames at scene cuts or while all changes',
    )


def check_args(
    parser: argparse.ArgumentParser, args: argparse.Namespace
) -> None:
    """Refuse options that do not go together."""
    if not args.sources and not args.cameras:
        parser.error('expected a source, or --cameras')
    for name in ('max_frames', 'workers', 'reset_interval'):
        value = getattr(args, name)
        if value is not None and value < 1:
            option = name.replace('_', '-')
            parser.error(f'--{option} must be positive, got {value}')
    check_model_arguments(parser, args)
    if args.fps is not None and not 0 < args.fps <= 1000:
        parser.error(f'--fps must be in (0, 1000], got {args.fps}')
    if not (args.track or args.pose) and any(
        path.lower().endswith('.txt') for path in args.results
    ):
        parser.error(
            'a .txt of MOTChallenge holds tracked objects: expected --track '
            'with it'
        )
    if args.track_score is not None:
        if not (args.track or args.pose):
            parser.error('--track-score: expected --track or --pose with it')
        if not LOW_SCORE <= args.track_score <= 1:
            parser.error(
                f'--track-score must be in [{LOW_SCORE}, 1], got '
                f'{args.track_score}'
            )
    if args.pose and args.bbox:
        parser.error('expected either --pose or --bbox, got both')


def read_bytes(text: str) -> int:
    """Read a size such as ``4GiB``."""
    units = '|'.join(UNITS)
    found = re.fullmatch(rf'(\d+(?:\.\d+)?) ?({units[1:]})?', text)
    if not found:
        raise argparse.ArgumentTypeError(
            f'expected a size such as 4GiB or 500MB, got {text!r}'
        )
    return int(float(found[1]) * UNITS[found[2] or ''])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    quieten_opencv()
    console = Console()

    def warn(text: str) -> None:
        console.print(f'warning: {text}', markup=False, soft_wrap=True)

    options = camera_options(args)
    if args.show:
        check_display()
    with ExitStack() as stack, ExitStack() as sources:
        live = LiveOptions(waits=args.wait)
        readers = open_sources(options, live, sources, warn)
        model, pose = load_models(args, warn)
        metrics = None
        if args.metrics_port is not None:
            metrics = stack.enter_context(
                Metrics(args.metrics_port, args.metrics_host)
            )
        make = CameraMaker(args, model, pose, warn)
        cameras = [
            make(one, reader)
            for one, reader in zip(options, readers, strict=True)
            if reader is not None
        ]
        sources.pop_all()  # they are the cameras' now
        interrupted = run(args, (model, pose), cameras, metrics, console)
    return conclude(options, cameras, interrupted, warn)


def camera_options(args: argparse.Namespace) -> list[CameraOptions]:
    """Gather the cameras of the command line and of the file."""
    ignore = [
        read_polygon(item) if re.fullmatch(r'[\d.,\s]+', item) else item
        for item in args.ignore
    ]
    common = CameraOptions(
        '', '', args.out, args.results, args.region, ignore, args.bbox
    )
    cameras = [
        CameraOptions(source, *list(vars(common).values())[1:])
        for source in args.sources
    ]
    if args.cameras:
        cameras += read_cameras(args.cameras, common)
    cameras = name_cameras(cameras)
    for camera in cameras:
        logs = {
            f'--json {path}': path for path in dict.fromkeys(camera.results)
        }
        check_outputs(camera.source, {'--out': camera.out}, logs)
    return cameras


def open_sources(
    options: Sequence[CameraOptions],
    live: LiveOptions,
    stack: ExitStack,
    warn: Callable[[str], Any],
) -> list[apis.FrameReader | None]:
    """Open all sources; of several cameras one that fails is left behind."""
    readers: list[apis.FrameReader | None] = []
    for camera in options:
        try:
            reader = apis.open_reader(camera.source, warn, live)
        except (apis.UserError, InputError) as error:
            if len(options) == 1:
                raise
            warn(f'{camera.name}: {error}')
            readers.append(None)
        else:
            readers.append(stack.enter_context(reader))
    if not any(readers):
        raise apis.UserError('none of the sources can be opened')
    return readers


def load_models(
    args: argparse.Namespace, warn: Callable[[str], Any]
) -> tuple[nn.Module, nn.Module | None]:
    """Load the model, and the pose estimator if there is one."""
    model = apis.init_model(
        args.config, args.checkpoint, args.device, args.cfg_options
    )
    if not apis.is_converted(model):
        warn('no layer of this model is converted: it runs densely')
    accelerate_model(model, args.precision, args.calibration)
    if not args.pose:
        return model, None
    pose = apis.init_model(*args.pose, args.device)
    accelerate_model(pose)
    return model, pose


class CameraMaker:
    """Makes the cameras, and what their results go to.

    Args:
        args: The command line.
        model: The model.
        pose: The pose estimator, if there is one.
        warn: Takes warnings.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        model: nn.Module,
        pose: nn.Module | None,
        warn: Callable[[str], Any],
    ) -> None:
        self._args = args
        self._drawn = model if pose is None else pose
        self._warn = warn
        self._backend = backend_of(args, model)
        self._policy = None
        if not args.no_restarts:
            self._policy = mmskip.StreamPolicy(
                reset_interval=args.reset_interval
            )
        elif args.reset_interval:
            self._policy = mmskip.StreamPolicy(
                args.reset_interval, cut_share=None, busy_share=None
            )

    def __call__(
        self, options: CameraOptions, reader: apis.FrameReader
    ) -> Camera:
        """Make a camera."""
        return Camera(
            options.name,
            reader,
            partial(self._make_stream, options),
            partial(self._make_sinks, options),
            self._args.max_frames,
            self._warn,
        )

    def _make_stream(
        self,
        options: CameraOptions,
        shared: apis.SharedModel,
        pose: apis.SharedModel | None = None,
    ) -> apis.FrameStream | PeoplePose:
        args = self._args
        draws = bool(options.out) or args.show
        tracks = args.track and pose is None
        stream = apis.FrameStream(
            shared,
            options.bbox,
            with_mask=draws and args.show_mask,
            policy=self._policy,
            region=options.make_region(),
            tracker=self._make_tracker() if tracks else None,
            classes=args.classes,
        )
        if pose is None:
            return stream
        return PeoplePose(stream, pose, self._make_tracker())

    def _make_tracker(self) -> Tracker:
        score = self._args.track_score
        return Tracker() if score is None else Tracker(begin=score)

    def _make_sinks(
        self, options: CameraOptions, camera: Camera
    ) -> list[Sink]:
        args = self._args
        sinks: list[Sink] = []
        if options.out:
            drawer = PredictionDrawer(self._drawn, args.score_thr)
            fps = args.fps or camera.reader.fps
            video = apis.ResultVideo(
                options.out,
                fps,
                drawer,
                self._warn,
                keep_times=args.fps is None,
            )
            sinks.append(video)
        classes = (self._drawn.dataset_meta or {}).get('classes')
        for path in options.results:
            log = apis.ResultLog(
                path,
                camera.reader.name,
                lambda: dict(camera.summary(), backend=self._backend),
                classes,
                args.score_thr,
                args.rotate,
            )
            sinks.append(log)
        return sinks


def run(
    args: argparse.Namespace,
    models: tuple[nn.Module, nn.Module | None],
    cameras: Sequence[Camera],
    metrics: Metrics | None,
    console: Console,
) -> bool:
    """Run the model on the cameras; returns whether it was stopped."""
    numbers = [camera.num_frames for camera in cameras]
    expected = None if None in numbers else sum(numbers)

    shown: dict[str, apis.FrameResult] = {}

    def observe(camera: Camera, result: apis.FrameResult) -> None:
        if metrics is not None:
            metrics.observe(camera.name, result, camera.reader)
        if args.show:
            shown[camera.name] = result

    running = Cameras(
        models[0],
        cameras,
        dense=args.dense,
        workers=args.workers,
        pose=models[1],
        max_memory=args.max_memory,
        watch=observe,
    )
    interrupted = False
    try:
        with (
            ShowWindows(models[1] or models[0], args.score_thr) as windows,
            running,
            apis.StreamProgress(console, expected) as progress,
        ):
            for _ in running.wait():
                windows.show(shown)
                totals = [camera.totals for camera in cameras]
                progress.update(apis.StreamTotals.of_all(totals))
    except KeyboardInterrupt:
        interrupted = True
    finally:
        backend = backend_of(args, models[0])
        for camera in cameras:
            if camera.totals.frames:
                console.print(summary_table(args, camera, backend))
    return interrupted


def conclude(
    options: Sequence[CameraOptions],
    cameras: Sequence[Camera],
    interrupted: bool,
    warn: Callable[[str], Any],
) -> int:
    """Say what went wrong, and return the exit code."""
    if interrupted:
        frames = sum(camera.totals.frames for camera in cameras)
        warn(f'interrupted after {frames} frames')
        return EXIT_INTERRUPTED
    complete = len(cameras) == len(options)
    for camera in cameras:
        error = camera.error
        if error is None and not camera.totals.frames:
            error = apis.UserError(
                f'{camera.reader.name} has no readable frame'
            )
        if error is not None:
            text = explain_mistake(error)
            if len(options) == 1 or text is None:
                raise error
            warn(f'{camera.name}: {text}')
            complete = False
        elif camera.reader.cut_short is not None:
            warn(camera.reader.cut_short)
            complete = False
    return EXIT_OK if complete else EXIT_INCOMPLETE


def backend_of(args: argparse.Namespace, model: nn.Module) -> str:
    """Name of what computed the convolutions."""
    is_dense = args.dense or not apis.is_converted(model)
    return 'dense' if is_dense else active_backend()


def summary_table(
    args: argparse.Namespace, camera: Camera, backend: str
) -> Table:
    """What was read, what it cost and where the results are."""
    numbers = camera.summary()
    table = Table(title=camera.reader.name, show_header=False)
    table.add_row('frames', str(camera.totals.frames))
    counts = (
        ('unreadable', 'unreadable frames'),
        ('damaged', 'damaged frames'),
        ('dropped', 'dropped frames'),
        ('reconnects', 'reconnects'),
        ('black', 'black frames'),
        ('overexposed', 'overexposed frames'),
        ('noisy', 'very noisy frames'),
        ('frozen', 'frozen frames'),
    )
    for key, label in counts:
        if numbers[key]:
            table.add_row(label, str(numbers[key]))
    if numbers['restarts']:
        reasons = (f'{n} {why}' for why, n in numbers['restarts'].items())
        table.add_row('reference frames', ', '.join(reasons))
    table.add_row('GMAC/frame', f'{numbers["gmac_per_frame"]:.4g}')
    table.add_row('dense GMAC/frame', f'{numbers["dense_gmac_per_frame"]:.4g}')
    table.add_row('reduction', f'{numbers["reduction"]:.2f}x')
    table.add_row('ms/frame (model)', f'{numbers["ms_per_frame"]:.1f}')
    table.add_row('ms of the first frame', f'{numbers["ms_first"]:.1f}')
    table.add_row('frames/s (all)', f'{numbers["fps"]:.1f}')
    if camera.is_live:
        table.add_row('oldest result', f'{numbers["oldest"]:.2f} s')
    if camera.nbytes:
        table.add_row('memory of the stream', f'{numbers["mib"]:.0f} MiB')
    table.add_row('backend', backend)
    for path in camera.paths:
        table.add_row('written', str(path))
    return table


def quieten_opencv() -> None:
    """Keep decoders from printing a line for each damaged block.

    Damage is reported frame by frame instead. Variables that are set already
    are left alone.
    """
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
    if 'OPENCV_LOG_LEVEL' not in os.environ:
        cv2.setLogLevel(0)


if __name__ == '__main__':
    sys.exit(run_tool(main, 'stream_video'))

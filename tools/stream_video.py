"""Run a detector or pose estimator over a video, skipping what is unchanged.

The source is a video file, a folder of images, the number of a camera or a
network address. A frame that cannot be read is skipped. When the size of the
frames changes, the stream starts again with a reference frame and the output
video is rescaled to its first size.

Exit codes: 0 done; 1 the source ended early (a truncated file, a camera that
went away); 2 a mistake in the arguments or files; 130 interrupted, by Ctrl-C,
SIGTERM or SIGHUP, also while a camera hangs. What was written until then is
complete and playable in each case.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
from mmengine.config import DictAction
from rich.console import Console
from rich.table import Table
from torch import nn

import mmskip
from mmskip import apis
from mmskip.apis.errors import (
    EXIT_INCOMPLETE,
    EXIT_INTERRUPTED,
    EXIT_OK,
    run_tool,
)
from mmskip.native import active_backend
from mmskip.plan import PRECISIONS
from mmskip.video.writer import check_video_path
from mmskip.visualization import PredictionDrawer

Sink = apis.ResultVideo | apis.ResultLog


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config of a detector or pose model')
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument(
        'source', help='video file, folder of images, camera number, address'
    )
    parser.add_argument(
        '--out', help='annotated video to write (.mp4, .avi, .mkv, .mov)'
    )
    parser.add_argument('--json', help='file for predictions and costs')
    parser.add_argument('--device', default='cpu', help="e.g. 'cuda:0'")
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        help='boxes or keypoints below this score are not shown',
    )
    parser.add_argument(
        '--max-frames', type=int, help='stop after this many frames'
    )
    parser.add_argument(
        '--fps', type=float, help="of the output; default the source's own"
    )
    parser.add_argument(
        '--bbox',
        type=float,
        nargs=4,
        metavar=('X1', 'Y1', 'X2', 'Y2'),
        help='where the person is, for top-down pose; default the whole '
        'frame; it stays fixed over the stream',
    )
    parser.add_argument(
        '--dense', action='store_true', help='run the model without skipping'
    )
    parser.add_argument(
        '--precision',
        choices=PRECISIONS,
        default='float32',
        help='how images and kernels are stored; bfloat16 takes half of the '
        'memory; int8 is fastest and needs --calibration',
    )
    parser.add_argument(
        '--calibration',
        metavar='FILE',
        help='int8.json of `mmskip calibrate --precision int8`',
    )
    parser.add_argument(
        '--show-mask',
        action='store_true',
        default=True,
        help='tint the pixels that were computed (default)',
    )
    parser.add_argument('--no-mask', dest='show_mask', action='store_false')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override settings of the config, xxx=yyy',
    )
    args = parser.parse_args(argv)
    if args.max_frames is not None and args.max_frames < 1:
        parser.error(f'--max-frames must be positive, got {args.max_frames}')
    if args.dense and args.precision != 'float32':
        parser.error(
            f'--dense runs in float32, got --precision {args.precision}'
        )
    if (args.precision == 'int8') != (args.calibration is not None):
        parser.error(
            'expected --calibration with --precision int8 and with no other; '
            '`mmskip calibrate CONFIG CHECKPOINT --precision int8 --video '
            'VIDEO --out DIR` writes DIR/int8.json'
        )
    if args.fps is not None and not 0 < args.fps <= 1000:
        parser.error(f'--fps must be in (0, 1000], got {args.fps}')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    quieten_opencv()
    check_outputs(args)
    console = Console()

    def warn(text: str) -> None:
        console.print(f'warning: {text}', markup=False, soft_wrap=True)

    with apis.open_reader(args.source, warn) as reader:
        model = apis.init_model(
            args.config, args.checkpoint, args.device, args.cfg_options
        )
        if not apis.is_converted(model):
            warn('no layer of this model is converted: it runs densely')
        try:
            mmskip.accelerate(model, args.precision, args.calibration)
        except ValueError as error:
            raise apis.UserError(
                f'--precision {args.precision}: {error}'
            ) from error
        totals = apis.StreamTotals()
        sinks = make_sinks(args, model, reader, totals, warn)
        try:
            interrupted = run(args, model, reader, totals, sinks, console)
        finally:
            if totals.frames:
                console.print(
                    summary_table(args, model, reader, totals, sinks)
                )
        if interrupted:
            warn(f'interrupted after {totals.frames} frames')
            return EXIT_INTERRUPTED
        if not totals.frames:
            raise apis.UserError(f'{reader.name} has no readable frame')
        if reader.cut_short is not None:
            warn(reader.cut_short)
            return EXIT_INCOMPLETE
    return EXIT_OK


def make_sinks(
    args: argparse.Namespace,
    model: nn.Module,
    reader: apis.FrameReader,
    totals: apis.StreamTotals,
    warn: Callable[[str], Any],
) -> list[Sink]:
    """What the results go to; files are opened on entering."""
    sinks: list[Sink] = []
    if args.out:
        drawer = PredictionDrawer(model, args.score_thr)
        fps = args.fps or reader.fps
        sinks.append(apis.ResultVideo(args.out, fps, drawer, warn))
    if args.json:
        classes = (model.dataset_meta or {}).get('classes')
        backend = backend_of(args, model)
        log = apis.ResultLog(
            args.json,
            reader.name,
            lambda: dict(totals.summary(), backend=backend),
            classes,
            args.score_thr,
        )
        sinks.append(log)
    return sinks


def run(
    args: argparse.Namespace,
    model: nn.Module,
    reader: apis.FrameReader,
    totals: apis.StreamTotals,
    sinks: list[Sink],
    console: Console,
) -> bool:
    """Stream the frames into the sinks; returns whether it was stopped."""
    expected = reader.num_frames
    if args.max_frames is not None:
        expected = min(expected or args.max_frames, args.max_frames)
    with ExitStack() as stack:
        for sink in sinks:
            stack.enter_context(sink)
        results = apis.stream_video(
            model,
            islice(reader, args.max_frames),
            bbox=args.bbox,
            dense=args.dense,
            with_mask=bool(args.out) and args.show_mask,
        )
        stack.enter_context(closing(results))
        progress = apis.StreamProgress(console, expected)
        stack.enter_context(progress)
        try:
            for result in results:
                for sink in sinks:
                    sink.write(result)
                totals.add(result)
                progress.update(totals)
        except KeyboardInterrupt:
            return True
    return False


def check_outputs(args: argparse.Namespace) -> None:
    """Refuse outputs that cannot be, before any work is done."""
    source = Path(args.source)
    for path in filter(None, (args.out, args.json)):
        if source.exists() and Path(path).resolve() == source.resolve():
            raise apis.UserError(f'{path} is the source: it would be lost')
    if args.out:
        check_video_path(args.out)


def backend_of(args: argparse.Namespace, model: nn.Module) -> str:
    """Name of what computed the convolutions."""
    is_dense = args.dense or not apis.is_converted(model)
    return 'dense' if is_dense else active_backend()


def summary_table(
    args: argparse.Namespace,
    model: nn.Module,
    reader: apis.FrameReader,
    totals: apis.StreamTotals,
    sinks: list[Sink],
) -> Table:
    """What was read, what it cost and where the results are."""
    numbers = totals.summary()
    table = Table(title=reader.name, show_header=False)
    table.add_row('frames', str(totals.frames))
    if reader.unreadable:
        table.add_row('unreadable frames', str(reader.unreadable))
    table.add_row('GMAC/frame', f'{numbers["gmac_per_frame"]:.4g}')
    table.add_row('dense GMAC/frame', f'{numbers["dense_gmac_per_frame"]:.4g}')
    table.add_row('reduction', f'{numbers["reduction"]:.2f}x')
    table.add_row('ms/frame (model)', f'{numbers["ms_per_frame"]:.1f}')
    table.add_row('ms of the first frame', f'{numbers["ms_first"]:.1f}')
    table.add_row('frames/s (all)', f'{numbers["fps"]:.1f}')
    table.add_row('backend', backend_of(args, model))
    for sink in sinks:
        table.add_row('written', str(sink.path))
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

"""Run a detector or pose estimator over thousands of videos.

Each video gets a file of results in the folder --out, by the name of the
video: frames with costs and instances as `mmskip stream --json` has them.
VIDEOS are files, folders, which are searched, or @FILE with a line for each.
A folder of images is a video.

A result is complete or not there. A second run leaves out what is finished,
and tries again what failed. Results of another model or of other options are
never mixed with those that are there.

With --ray the videos are shared among the machines of a cluster of Ray. All
of them must find config, checkpoint, videos and results under these paths.

Exit codes: 0 done; 1 videos could not be read to their end (see errors.jsonl
in the folder), all others are done; 2 a mistake in the arguments or files;
130 interrupted, by Ctrl-C, SIGTERM or SIGHUP.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

import mmskip
from mmskip.apis.archive import (
    ERRORS,
    Archive,
    ArchiveModel,
    ArchiveProgress,
    Video,
    VideoWork,
    find_videos,
)
from mmskip.apis.errors import EXIT_INCOMPLETE, EXIT_OK, run_tool
from mmskip.apis.launch import add_model_arguments, check_model_arguments
from mmskip.apis.workers import ProcessWorkers, RayWorkers, Workers

GIGA = 1e9


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_arguments(parser)
    parser.add_argument(
        'videos', nargs='+', help='video files, folders, @FILE'
    )
    parser.add_argument(
        '--out', required=True, help='folder of the results; made if need be'
    )
    parser.add_argument(
        '--workers',
        type=int,
        help='processes that each run the model; default one per core, or '
        'with --ray as many as the cluster has room for',
    )
    parser.add_argument(
        '--threads', type=int, default=1, help='CPU threads of each worker'
    )
    parser.add_argument(
        '--ray',
        metavar='ADDRESS',
        help="'auto' for the cluster of this machine, 'ray://HOST:PORT', or "
        "'local' for one that ends with the run",
    )
    args = parser.parse_args(argv)
    check_model_arguments(parser, args)
    for name in ('workers', 'threads'):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f'--{name} must be positive, got {value}')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    console = Console()
    model = ArchiveModel(
        args.config,
        args.checkpoint,
        args.device,
        args.cfg_options,
        args.precision,
        args.calibration,
        args.dense,
        args.bbox and tuple(args.bbox),
        args.score_thr,
        mmskip.__version__,
    )
    videos = find_videos(args.videos, args.out)
    with Archive(args.out, model) as archive:
        waiting = archive.waiting(videos)
        console.print(
            f'{len(videos)} videos, {len(videos) - len(waiting)} of them '
            'finished before'
        )
        workers = workers_of(args, model, len(waiting))
        with ArchiveProgress(console, waiting) as progress:
            failed = []
            for outcome in archive.run([v for v, _ in waiting], workers):
                progress.update(outcome)
                if outcome.error is not None:
                    failed.append((outcome.task, outcome.error))
        failed += archive.cut_short(videos)
        archive.write_errors(failed)
    console.print(summary_table(args.out, len(videos), failed, progress))
    return EXIT_INCOMPLETE if failed else EXIT_OK


def workers_of(
    args: argparse.Namespace, model: ArchiveModel, videos: int
) -> Workers:
    """Choose what does the work."""
    build = partial(VideoWork, model, args.threads)
    if args.ray is not None:
        return RayWorkers(build, args.ray, args.workers, args.threads)
    cores = len(os.sched_getaffinity(0))
    count = args.workers or max(1, cores // args.threads)
    return ProcessWorkers(build, min(count, videos), ['mmskip.apis.archive'])


def summary_table(
    folder: str,
    videos: int,
    failed: Sequence[tuple[Video, str]],
    progress: ArchiveProgress,
) -> Table:
    """Say what was done, what it cost, and what is wrong."""
    table = Table(title=folder, show_header=False)
    table.add_row('videos', str(videos))
    table.add_row('done in this run', str(progress.done))
    if failed:
        text = f'{len(failed)}, see {Path(folder) / ERRORS}'
        table.add_row('not read to the end', text)
    if progress.frames:
        frames, reduction = progress.frames, progress.dense / progress.spent
        table.add_row('frames', str(frames))
        table.add_row('GMAC/frame', f'{progress.spent / GIGA / frames:.4g}')
        table.add_row('reduction', f'{reduction:.2f}x')
        table.add_row('frames/s (all)', f'{progress.fps:.1f}')
    return table


if __name__ == '__main__':
    sys.exit(run_tool(main, 'archive'))

"""The command line of the tools that write toy action videos."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from mmskip.apis.errors import EXIT_OK, UserError


def write_toy_videos(
    name: str,
    make: Callable[..., Path],
    description: str,
    defaults: dict[str, object],
    argv: Sequence[str] | None = None,
) -> int:
    """Write a toy data set and show progress.

    Args:
        name: What it is called.
        make: Writes it: ``make(root, train_videos=, test_videos=, frames=,
            fps=, size=, seed=, on_video=)``.
        description: What the tool does.
        defaults: Of the options ``train_videos``, ``test_videos``,
            ``frames`` and ``size``.
        argv: Arguments without the program's name.

    Returns:
        The exit code.

    Raises:
        UserError: An argument is out of range, or something else is there.
    """
    args = _parse_args(description, defaults, argv)
    total = args.train_videos + args.test_videos
    progress = Progress(
        TextColumn(name),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn('videos'),
        TimeRemainingColumn(),
    )
    with progress:
        task = progress.add_task('videos', total=total)
        try:
            root = make(
                args.out_dir,
                train_videos=args.train_videos,
                test_videos=args.test_videos,
                frames=args.frames,
                size=tuple(args.size),
                fps=args.fps,
                seed=args.seed,
                on_video=lambda: progress.advance(task),
            )
        except (ValueError, OSError) as error:
            raise UserError(str(error)) from error
        progress.update(task, completed=total)
    print(f'{name} is in {root}')
    return EXIT_OK


def _parse_args(
    description: str,
    defaults: dict[str, object],
    argv: Sequence[str] | None,
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('out_dir', help='folder to write to')
    parser.add_argument('--seed', type=int, default=0, help='random seed')
    parser.add_argument('--train-videos', type=int, help='training videos')
    parser.add_argument('--test-videos', type=int, help='validation videos')
    parser.add_argument('--frames', type=int, help='frames of each video')
    parser.add_argument(
        '--fps', type=float, default=10.0, help='frames per second'
    )
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('WIDTH', 'HEIGHT'),
        help='size of the images in pixels',
    )
    parser.set_defaults(**defaults)
    return parser.parse_args(argv)

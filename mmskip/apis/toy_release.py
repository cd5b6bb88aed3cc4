"""The command line of the tools that write toy data of actions in splits."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from mmskip.apis.errors import EXIT_OK, UserError


def write_toy_release(
    name: str,
    make: Callable[..., Path],
    description: str,
    defaults: Mapping[str, Any],
    actions: int,
    argv: Sequence[str] | None = None,
) -> int:
    """Write a toy data set and show progress.

    Args:
        name: What it is called.
        make: Writes it: ``make(root, train_videos=, test_videos=, frames=,
            size=, seed=, on_video=)``.
        description: What the tool does.
        defaults: Of the options ``train_videos``, ``test_videos``,
            ``frames`` and ``size``.
        actions: Number of actions.
        argv: Arguments without the program's name.

    Returns:
        The exit code.

    Raises:
        UserError: An argument is out of range, or something else is there.
    """
    args = _parse_args(description, defaults, argv)
    total = (args.train_videos + args.test_videos) * actions
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
                frames=tuple(args.frames),
                size=tuple(args.size),
                seed=args.seed,
                on_video=lambda: progress.advance(task),
            )
        except (ValueError, OSError) as error:
            raise UserError(str(error)) from error
        progress.update(task, completed=total)
    print(f'{name} is in {root}')
    return EXIT_OK


def _parse_args(
    description: str, defaults: Mapping[str, Any], argv: Sequence[str] | None
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('out_dir', help='folder to write to')
    parser.add_argument('--seed', type=int, default=0, help='random seed')
    for option in ('--train-videos', '--test-videos'):
        parser.add_argument(option, type=int, help='per action and split')
    parser.add_argument(
        '--frames',
        type=int,
        nargs=2,
        metavar=('FEWEST', 'MOST'),
        help='frames of a video',
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

"""Write toy localisation data in the layout of J-HMDB.

Example::

    python tools/make_toy_jhmdb.py data/toy_jhmdb

Run again with the same arguments it does nothing.
"""

import argparse
import sys
from collections.abc import Sequence

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from mmskip.apis import UserError
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.datasets.toy import make_toy_jhmdb
from mmskip.datasets.toy.acting import ACTIONS


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n', 1)[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('out_dir', help='folder to write to')
    parser.add_argument('--seed', type=int, default=0, help='random seed')
    parser.add_argument(
        '--train-videos', type=int, default=12, help='per action and split'
    )
    parser.add_argument(
        '--test-videos', type=int, default=6, help='per action and split'
    )
    parser.add_argument(
        '--frames',
        type=int,
        nargs=2,
        default=(12, 24),
        metavar=('FEWEST', 'MOST'),
        help='frames of a video',
    )
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=(128, 96),
        metavar=('WIDTH', 'HEIGHT'),
        help='size of the images in pixels',
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the data set and show progress."""
    args = parse_args(argv)
    total = (args.train_videos + args.test_videos) * len(ACTIONS)
    progress = Progress(
        TextColumn('toy J-HMDB'),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn('videos'),
        TimeRemainingColumn(),
    )
    with progress:
        task = progress.add_task('videos', total=total)
        try:
            root = make_toy_jhmdb(
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
    print(f'toy J-HMDB is in {root}')
    return EXIT_OK


if __name__ == '__main__':
    sys.exit(run_tool(main, 'make_toy_jhmdb'))

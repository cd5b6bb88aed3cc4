"""Write toy untrimmed action videos in the layout of ActivityNet.

Example::

    python tools/make_toy_activitynet.py data/toy_activitynet

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
from mmskip.datasets.toy import make_toy_activitynet


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n', 1)[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('out_dir', help='folder to write to')
    parser.add_argument('--seed', type=int, default=0, help='random seed')
    parser.add_argument(
        '--train-videos', type=int, default=400, help='training videos'
    )
    parser.add_argument(
        '--test-videos', type=int, default=160, help='validation videos'
    )
    parser.add_argument(
        '--frames', type=int, default=60, help='frames of each video'
    )
    parser.add_argument(
        '--fps', type=float, default=10.0, help='frames per second'
    )
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=(112, 112),
        metavar=('WIDTH', 'HEIGHT'),
        help='size of the images in pixels',
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the data set and show progress."""
    args = parse_args(argv)
    total = args.train_videos + args.test_videos
    progress = Progress(
        TextColumn('toy ActivityNet'),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn('videos'),
        TimeRemainingColumn(),
    )
    with progress:
        task = progress.add_task('videos', total=total)
        try:
            root = make_toy_activitynet(
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
    print(f'toy ActivityNet is in {root}')
    return EXIT_OK


if __name__ == '__main__':
    sys.exit(run_tool(main, 'make_toy_activitynet'))

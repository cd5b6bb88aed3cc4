"""Write a toy UA-DETRAC in the layout of the original release.

Example::

    python tools/make_toy_ua_detrac.py data/toy_ua_detrac

Run again with the same arguments it does nothing.
"""

import argparse
import sys

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from mmskip.datasets.toy import make_toy_ua_detrac


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n', 1)[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('out_dir', help='folder to write to')
    parser.add_argument('--seed', type=int, default=0, help='random seed')
    parser.add_argument(
        '--train-sequences', type=int, default=96, help='training sequences'
    )
    parser.add_argument(
        '--test-sequences', type=int, default=6, help='test sequences'
    )
    parser.add_argument(
        '--frames', type=int, default=40, help='frames of each sequence'
    )
    parser.add_argument(
        '--train-frames',
        type=int,
        default=8,
        help='frames of each training sequence',
    )
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=(448, 256),
        metavar=('WIDTH', 'HEIGHT'),
        help='size of the images in pixels',
    )
    parser.add_argument(
        '--density',
        type=float,
        default=0.4,
        help='vehicles per lane and second that want to enter',
    )
    return parser.parse_args()


def main() -> None:
    """Write the data set and show progress."""
    args = parse_args()
    total = args.train_sequences * args.train_frames
    total += args.test_sequences * args.frames
    progress = Progress(
        TextColumn('toy UA-DETRAC'),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn('frames'),
        TimeRemainingColumn(),
    )
    with progress:
        task = progress.add_task('frames', total=total)
        try:
            root = make_toy_ua_detrac(
                args.out_dir,
                train_sequences=args.train_sequences,
                test_sequences=args.test_sequences,
                frames=args.frames,
                train_frames=args.train_frames,
                size=tuple(args.size),
                density=args.density,
                seed=args.seed,
                on_frame=lambda: progress.advance(task),
            )
        except (ValueError, OSError) as error:
            progress.stop()
            sys.exit(f'make_toy_ua_detrac: {error}')
        progress.update(task, completed=total)
    print(f'toy UA-DETRAC is in {root}')


if __name__ == '__main__':
    main()

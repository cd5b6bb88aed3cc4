"""Plot where the frames of a test set stop, a bar per model.

Example::

    python tools/analysis/frame_usage.py work_dirs/sof/videos.json \
        --out usage.png

The file is what dict(type='mmskip.VideoCost', num_places=5,
out_file='work_dirs/sof/videos.json') in test_evaluator writes. Several files
make several bars, named by --names or their folders.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmskip.apis import UserError
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.visualization.frame_usage import (
    count_stops,
    plot_frame_usage,
    read_videos,
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    parser.add_argument(
        'files', type=Path, nargs='+', help='JSON files of mmskip.VideoCost'
    )
    parser.add_argument('--names', nargs='+', help='of the bars')
    parser.add_argument(
        '--out', type=Path, default=Path('frame_usage.png'), help='picture'
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Plot, and print the percentages."""
    args = parse_args(argv)
    names = args.names or [
        path.parent.name or path.stem for path in args.files
    ]
    if len(set(names)) != len(args.files):
        raise UserError(
            f'expected {len(args.files)} different names of the bars, got '
            f'{names}; give --names'
        )
    try:
        reports = [read_videos(path) for path in args.files]
        shares = {
            name: count_stops(report['videos'], report['num_places'] or 0)
            for name, report in zip(names, reports, strict=True)
        }
        path = plot_frame_usage(shares, args.out)
    except (OSError, ValueError) as error:
        raise UserError(str(error)) from error
    for name, row in shares.items():
        parts = ', '.join(f'{fate} {share:.1f}' for fate, share in row.items())
        print(f'{name} (%): {parts}')
    print(path)
    return EXIT_OK


if __name__ == '__main__':
    sys.exit(run_tool(main, 'frame_usage'))

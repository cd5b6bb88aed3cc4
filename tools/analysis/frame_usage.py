"""Plot where the frames of a test set stop, a bar per model.

Example::

    python tools/analysis/frame_usage.py work_dirs/sof/videos.json \
        --out usage.png

The file is what dict(type='mmskip.VideoCost', num_places=5,
out_file='work_dirs/sof/videos.json') in test_evaluator writes. Several files
make several bars, named by --names or their folders. With --videos and
--annotations it also tells how many frames inside and outside of the
annotated intervals are forwarded to the end.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmskip.apis import UserError
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.datasets.action_lists import read_segments
from mmskip.visualization.frame_usage import (
    count_stops,
    forwarded_shares,
    frame_rate,
    frames_inside,
    plot_frame_usage,
    read_videos,
    sampled_frames,
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    parser.add_argument(
        'files', type=Path, nargs='+', help='JSON files of mmskip.VideoCost'
    )
    parser.add_argument('--names', nargs='+', help='of the bars')
    parser.add_argument('--videos', type=Path, help='folder of the videos')
    parser.add_argument(
        '--annotations', type=Path, help='activity_net.v1-3.min.json'
    )
    parser.add_argument(
        '--out', type=Path, default=Path('frame_usage.png'), help='picture'
    )
    args = parser.parse_args(argv)
    if (args.videos is None) != (args.annotations is None):
        parser.error('--videos and --annotations go together')
    return args


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
        inside = [intervals(report, args) for report in reports]
    except (OSError, ValueError) as error:
        raise UserError(str(error)) from error
    for name, row in shares.items():
        parts = ', '.join(f'{fate} {share:.1f}' for fate, share in row.items())
        print(f'{name} (%): {parts}')
    for name, text in zip(names, inside, strict=True):
        if text:
            print(f'{name}: {text}')
    print(path)
    return EXIT_OK


def intervals(report: dict, args: argparse.Namespace) -> str:
    """How the annotated intervals compare with the rest, if they are known.

    Raises:
        ValueError: A video cannot be read.
    """
    if args.annotations is None:
        return ''
    segments = read_segments(args.annotations)
    videos = report['videos']
    found = [
        frames_inside(
            sampled_frames(video),
            frame_rate(args.videos / video['video']),
            segments.get(Path(video['video']).stem.removeprefix('v_'), ()),
        )
        for video in videos
    ]
    places = report['num_places'] or 0
    inside, outside = forwarded_shares(videos, found, places)
    ratio = inside / outside if outside else float('inf')
    return (
        f'forwarded to the end inside the annotated intervals {inside:.1f} %, '
        f'outside {outside:.1f} % ({ratio:.1f} times as often inside)'
    )


if __name__ == '__main__':
    sys.exit(run_tool(main, 'frame_usage'))

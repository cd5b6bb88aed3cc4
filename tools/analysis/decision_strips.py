"""Draw what became of each frame of some videos.

Example::

    python tools/analysis/decision_strips.py work_dirs/sof/videos.json \
        --videos data/activitynet/videos \
        --annotations data/activitynet/activity_net.v1-3.min.json \
        --out strips.png

The file is what dict(type='mmskip.VideoCost', num_places=5,
out_file='work_dirs/sof/videos.json') in test_evaluator writes. Upper row: the
frames sampled. Lower row: the frames used; res# where the others stopped;
exit: not looked at. The bar marks the annotated intervals.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2

from mmskip.apis import UserError
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.datasets.action_lists import read_segments
from mmskip.visualization.frame_usage import draw_video, read_videos, stack


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    parser.add_argument('file', type=Path, help='of mmskip.VideoCost')
    parser.add_argument(
        '--videos', type=Path, required=True, help='folder of the videos'
    )
    parser.add_argument(
        '--annotations', type=Path, help='activity_net.v1-3.min.json'
    )
    parser.add_argument(
        '--names', nargs='+', help='videos as in the file; default: the first'
    )
    parser.add_argument(
        '--number', type=int, default=6, help='of videos without --names'
    )
    parser.add_argument(
        '--out', type=Path, default=Path('decision_strips.png'), help='picture'
    )
    return parser.parse_args(argv)


def choose(
    videos: list[dict], names: Sequence[str] | None, number: int
) -> list[dict]:
    """Choose the videos to draw.

    Raises:
        UserError: A name is not in the file, or there is nothing to draw.
    """
    if names is None:
        if number < 1:
            raise UserError(f'expected --number >= 1, got {number}')
        return videos[:number]
    by_name = {
        key: video
        for video in videos
        for key in (Path(video['video']).stem, video['video'])
    }
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise UserError(
            f'expected videos of the file, got {", ".join(unknown)}; there '
            f'are {", ".join(list(by_name)[:3])}, ...'
        )
    return [by_name[name] for name in names]


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the strips."""
    args = parse_args(argv)
    try:
        report = read_videos(args.file)
        segments = read_segments(args.annotations) if args.annotations else {}
        strips = [
            draw_video(
                video,
                args.videos / video['video'],
                report['num_places'] or 0,
                segments.get(Path(video['video']).stem.removeprefix('v_')),
                report['classes'],
            )
            for video in choose(report['videos'], args.names, args.number)
        ]
    except (OSError, ValueError) as error:
        raise UserError(str(error)) from error
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(args.out), stack(strips)):
        raise UserError(f'{args.out}: expected a path that can be written')
    print(args.out)
    return EXIT_OK


if __name__ == '__main__':
    sys.exit(run_tool(main, 'decision_strips'))

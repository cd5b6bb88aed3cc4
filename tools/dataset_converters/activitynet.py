"""List ActivityNet-v1.3 for mmaction2.

Example::

    python tools/dataset_converters/activitynet.py \
        data/activitynet/activity_net.v1-3.min.json data/activitynet/videos \
        --out-dir data/activitynet

Writes train_list_videos.txt, val_list_videos.txt and classes.txt; with
--rawframes the lists end in rawframes.txt. Videos are found by their YouTube
id, with or without "v_" before it, in any folder below. The exit status is 1
if annotated videos are missing; the lists are written all the same.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmskip.apis.errors import run_tool
from mmskip.apis.launch import add_list_arguments, report_lists
from mmskip.datasets.action_lists import (
    ACTIVITYNET_SIZES,
    ListReport,
    convert_split,
    read_activitynet,
    write_classes,
)

SPLITS = dict(training='train', validation='val')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    parser.add_argument(
        'annotations', type=Path, help='activity_net.v1-3.min.json'
    )
    parser.add_argument('media', type=Path, help='folder of the videos')
    add_list_arguments(parser)
    return parser.parse_args(argv)


def convert(args: argparse.Namespace) -> Iterator[ListReport]:
    """Write the lists."""
    classes, entries = read_activitynet(args.annotations)
    write_classes(args.out_dir / 'classes.txt', classes)
    for subset, split in SPLITS.items():
        yield convert_split(
            'ActivityNet-v1.3',
            entries[subset],
            ACTIVITYNET_SIZES[subset],
            args.media,
            args.out_dir,
            split,
            args.rawframes,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Convert, and say what was found."""
    args = parse_args(argv)
    return report_lists(lambda: convert(args))


if __name__ == '__main__':
    sys.exit(run_tool(main, 'activitynet'))

"""List Moments in Time for mmaction2.

Example::

    python tools/dataset_converters/moments_in_time.py \
        --training-csv trainingSet.csv \
        --training-media data/moments_in_time/training \
        --validation-csv validationSet.csv \
        --validation-media data/moments_in_time/validation \
        --categories moments_categories.txt --out-dir data/moments_in_time

Videos are found as <class>/<file> in the folder of their split. The exit
status is 1 if annotated videos are missing; the lists are written all the
same.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmskip.apis.errors import run_tool
from mmskip.apis.launch import add_list_arguments, report_lists
from mmskip.datasets.action_lists import (
    MOMENTS_SIZES,
    ListReport,
    convert_split,
    read_moments_classes,
    read_moments_csv,
    write_classes,
)

# How mmskip's configs call the splits.
LISTS = dict(training='train', validation='val')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    for split in MOMENTS_SIZES:
        parser.add_argument(
            f'--{split}-csv', type=Path, required=True, help='annotation'
        )
        parser.add_argument(
            f'--{split}-media', type=Path, required=True, help='clips'
        )
    parser.add_argument(
        '--categories',
        type=Path,
        required=True,
        help='lines "name,index" of the 339 classes',
    )
    add_list_arguments(parser)
    return parser.parse_args(argv)


def convert(args: argparse.Namespace) -> Iterator[ListReport]:
    """Write the lists."""
    classes = read_moments_classes(args.categories)
    write_classes(args.out_dir / 'classes.txt', classes)
    for split, published in MOMENTS_SIZES.items():
        yield convert_split(
            'Moments in Time',
            read_moments_csv(getattr(args, f'{split}_csv'), classes),
            published,
            getattr(args, f'{split}_media'),
            args.out_dir,
            LISTS[split],
            args.rawframes,
            by_path=True,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Convert, and say what was found."""
    args = parse_args(argv)
    return report_lists(lambda: convert(args))


if __name__ == '__main__':
    sys.exit(run_tool(main, 'moments_in_time'))

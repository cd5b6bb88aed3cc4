"""List Kinetics-400 for mmaction2.

Example::

    python tools/dataset_converters/kinetics400.py \
        --train-csv data/kinetics400/kinetics_train.csv \
        --train-media data/kinetics400/train \
        --val-csv data/kinetics400/kinetics_val.csv \
        --val-media data/kinetics400/val --out-dir data/kinetics400

Reads the CSV files of the release. Clips are found as
<youtube id>_<start>_<end>, in any folder below. The exit status is 1 if
annotated videos are missing; the lists are written all the same.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmskip.apis.errors import run_tool
from mmskip.apis.launch import add_list_arguments, report_lists
from mmskip.datasets.action_lists import (
    KINETICS400_SIZES,
    ListReport,
    convert_split,
    read_kinetics_csv,
    write_classes,
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    for split in KINETICS400_SIZES:
        parser.add_argument(
            f'--{split}-csv', type=Path, required=True, help='annotation'
        )
        parser.add_argument(
            f'--{split}-media', type=Path, required=True, help='clips'
        )
    add_list_arguments(parser)
    return parser.parse_args(argv)


def convert(args: argparse.Namespace) -> Iterator[ListReport]:
    """Write the lists."""
    classes, train = read_kinetics_csv(args.train_csv)
    _, val = read_kinetics_csv(args.val_csv, classes)
    write_classes(args.out_dir / 'classes.txt', classes)
    media = dict(train=args.train_media, val=args.val_media)
    for split, entries in (('train', train), ('val', val)):
        yield convert_split(
            'Kinetics-400',
            entries,
            KINETICS400_SIZES[split],
            media[split],
            args.out_dir,
            split,
            args.rawframes,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Convert, and say what was found."""
    args = parse_args(argv)
    return report_lists(lambda: convert(args))


if __name__ == '__main__':
    sys.exit(run_tool(main, 'kinetics400'))

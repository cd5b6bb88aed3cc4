"""List Mini-Kinetics-200 for mmaction2.

Example, with the lists that come with AR-Net or OCSampler::

    python tools/dataset_converters/mini_kinetics.py \
        --train mini_train_videofolder.txt --train-media kinetics400/train \
        --val mini_val_videofolder.txt --val-media kinetics400/val \
        --out-dir data/mini_kinetics

With the CSV files of Kinetics-400 in their place, give the names of the 200
classes, one a line, as --classes; their order is that of the labels. The
origins number the classes differently: train and test with one of them. The
exit status is 1 if videos are missing; the lists are written all the same.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmskip.apis.errors import run_tool
from mmskip.apis.launch import add_list_arguments, report_lists
from mmskip.datasets.action_lists import (
    MINI_KINETICS_SIZES,
    ActionEntry,
    ListReport,
    convert_split,
    read_kinetics_csv,
    read_video_list,
    write_classes,
)
from mmskip.reading import InputError, read_lines

NUM_CLASSES = 200


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    for split in MINI_KINETICS_SIZES:
        parser.add_argument(
            f'--{split}', type=Path, required=True, help='list or CSV file'
        )
        parser.add_argument(
            f'--{split}-media', type=Path, required=True, help='clips'
        )
    parser.add_argument(
        '--classes', type=Path, help='names of the 200 classes, for CSV files'
    )
    add_list_arguments(parser)
    return parser.parse_args(argv)


def read_classes(path: Path) -> list[str]:
    """Read the names of the classes.

    Raises:
        InputError: There are not 200 different ones.
    """
    classes = [line for _, line in read_lines(path)]
    if not len(set(classes)) == len(classes) == NUM_CLASSES:
        raise InputError(
            f'{path}: expected {NUM_CLASSES} different class names, one a '
            f'line, got {len(classes)} lines with {len(set(classes))}'
        )
    return classes


def read_split(path: Path, classes: list[str] | None) -> list[ActionEntry]:
    """Read a list or a CSV file.

    Raises:
        ValueError: It is a CSV file and the classes are not given.
    """
    if path.suffix.lower() != '.csv':
        return read_video_list(path, NUM_CLASSES)
    if classes is None:
        raise ValueError(
            f'{path}: expected --classes with a CSV file, got none; it would '
            'be all of Kinetics-400'
        )
    return read_kinetics_csv(path, classes)[1]


def convert(args: argparse.Namespace) -> Iterator[ListReport]:
    """Write the lists."""
    classes = None
    if args.classes is not None:
        classes = read_classes(args.classes)
        write_classes(args.out_dir / 'classes.txt', classes)
    for split, published in MINI_KINETICS_SIZES.items():
        yield convert_split(
            'Mini-Kinetics-200',
            read_split(getattr(args, split), classes),
            published,
            getattr(args, f'{split}_media'),
            args.out_dir,
            split,
            args.rawframes,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Convert, and say what was found."""
    args = parse_args(argv)
    return report_lists(lambda: convert(args))


if __name__ == '__main__':
    sys.exit(run_tool(main, 'mini_kinetics'))

"""List THUMOS'14 (101 classes, video-level labels) for mmaction2.

Example::

    python tools/dataset_converters/thumos14.py \
        --validation validation_set.mat \
        --validation-media data/thumos14/validation \
        --test test_set_meta.mat --test-media data/thumos14/test \
        --class-index class_index.txt --out-dir data/thumos14

The validation set is what is trained on. Labels are the primary actions;
background videos get none and need multi_class=True. The exit status is 1 if
videos are missing; the lists are written all the same.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmskip.apis.errors import run_tool
from mmskip.apis.launch import add_list_arguments, report_lists
from mmskip.datasets.action_lists import (
    THUMOS14_SIZES,
    ListReport,
    convert_split,
    read_class_index,
    read_thumos14,
    write_classes,
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    for split in THUMOS14_SIZES:
        parser.add_argument(
            f'--{split}', type=Path, required=True, help='.mat file'
        )
        parser.add_argument(
            f'--{split}-media', type=Path, required=True, help='videos'
        )
    parser.add_argument(
        '--class-index',
        type=Path,
        required=True,
        help='lines "number name" of the 101 classes',
    )
    add_list_arguments(parser)
    return parser.parse_args(argv)


def convert(args: argparse.Namespace) -> Iterator[ListReport]:
    """Write the lists."""
    classes = read_class_index(args.class_index)
    write_classes(args.out_dir / 'classes.txt', classes)
    for split, published in THUMOS14_SIZES.items():
        yield convert_split(
            "THUMOS'14",
            read_thumos14(getattr(args, split)),
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
    sys.exit(run_tool(main, 'thumos14'))

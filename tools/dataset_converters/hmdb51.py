"""List the splits of HMDB51 for mmaction2, with videos or frames on disk.

Example::

    python tools/dataset_converters/hmdb51.py \
        --splits data/hmdb51/testTrainMulti_7030_splits \
        --media data/hmdb51/videos --out-dir data/hmdb51

Videos are found as <class>/<video>. The exit status is 1 if listed videos
are missing; the lists are written all the same.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

from mmskip.apis.errors import run_tool
from mmskip.apis.launch import add_list_arguments, report_lists
from mmskip.datasets.action_lists import write_hmdb51_lists


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    parser.add_argument(
        '--splits', type=Path, required=True, help='folder of the split files'
    )
    parser.add_argument(
        '--media', type=Path, required=True, help='folder of the classes'
    )
    add_list_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Convert, and say what was found."""
    args = parse_args(argv)
    return report_lists(
        lambda: itertools.chain.from_iterable(
            write_hmdb51_lists(
                args.splits,
                args.media,
                args.out_dir,
                split,
                args.rawframes,
                published=True,
            )
            for split in (1, 2, 3)
        )
    )


if __name__ == '__main__':
    sys.exit(run_tool(main, 'hmdb51'))

"""List the actions of JHMDB or sub-JHMDB for mmaction2.

Examples::

    python tools/dataset_converters/jhmdb_lists.py \
        --splits data/jhmdb/splits \
        --media data/jhmdb/ReCompress_Videos --out-dir data/jhmdb
    python tools/dataset_converters/jhmdb_lists.py --rawframes \
        --splits data/jhmdb/sub_splits \
        --media data/jhmdb/Rename_Images --out-dir data/sub_jhmdb

Frames are <action>/<video>/00001.png: `RawframeDataset` reads them with
filename_tmpl='{:05}.png'. The exit status is 1 if listed videos are missing.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

from mmskip.apis.errors import run_tool
from mmskip.apis.launch import add_list_arguments, report_lists
from mmskip.datasets.action_lists import write_jhmdb_lists


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    parser.add_argument(
        '--splits', type=Path, required=True, help='splits or sub_splits'
    )
    parser.add_argument(
        '--media',
        type=Path,
        required=True,
        help='ReCompress_Videos, or Rename_Images with --rawframes',
    )
    add_list_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Convert, and say what was found."""
    args = parse_args(argv)
    return report_lists(
        lambda: itertools.chain.from_iterable(
            write_jhmdb_lists(
                args.splits, args.media, args.out_dir, split, args.rawframes
            )
            for split in (1, 2, 3)
        )
    )


if __name__ == '__main__':
    sys.exit(run_tool(main, 'jhmdb_lists'))

"""Write mmpose's annotation files from the original (sub-)JHMDB.

Example::

    python tools/dataset_converters/jhmdb_poses.py data/jhmdb

writes data/jhmdb/annotations/Sub1_train.json and so on, for mmpose's
JhmdbDataset. mmskip.JHMDBPoseDataset needs no conversion.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mmskip.apis import UserError
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.datasets.jhmdb_pose_release import (
    MARK_OF_SUBSET,
    VARIANTS,
    read_pose_json,
)

PREFIXES = dict(sub='Sub', full='Full')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    parser.add_argument('root', type=Path, help='folder of the release')
    parser.add_argument(
        '--out-dir', type=Path, help='default: annotations in that folder'
    )
    parser.add_argument(
        '--variant',
        choices=VARIANTS,
        default='sub',
        help='sub-JHMDB, or all of JHMDB (default: sub)',
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Convert, and say what was found."""
    args = parse_args(argv)
    out_dir = args.out_dir or args.root / 'annotations'
    for split in (1, 2, 3):
        for subset in MARK_OF_SUBSET:
            name = f'{PREFIXES[args.variant]}{split}_{subset}.json'
            try:
                content, report = read_pose_json(
                    args.root, split, subset, args.variant
                )
                out_dir.mkdir(parents=True, exist_ok=True)
                (out_dir / name).write_text(json.dumps(content))
            except (OSError, ValueError) as error:
                raise UserError(str(error)) from error
            print(f'{out_dir / name}: {report}')
    return EXIT_OK


if __name__ == '__main__':
    sys.exit(run_tool(main, 'jhmdb_poses'))

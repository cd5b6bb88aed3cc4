"""Make JHMDB-GT.pkl from the masks and splits of the original J-HMDB.

Example::

    python tools/dataset_converters/jhmdb_actions.py data/jhmdb

with ``puppet_mask/`` and ``splits/`` in that folder. Whoever has a copy of
JHMDB-GT.pkl (that of ACT-detector, MOC or YOWO) needs no conversion.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmskip.apis import UserError
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.datasets.jhmdb_release import read_masks, write_ground_truth


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    parser.add_argument('root', type=Path, help='folder of the release')
    parser.add_argument(
        '--out', type=Path, help='file to write; <root>/JHMDB-GT.pkl if none'
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Convert, and say what was found."""
    args = parse_args(argv)
    out = args.out or args.root / 'JHMDB-GT.pkl'
    try:
        if out.exists():
            raise FileExistsError(
                f'{out}: there already; remove it or choose another with --out'
            )
        truth = read_masks(args.root)
        write_ground_truth(out, truth)
    except (OSError, ValueError) as error:
        raise UserError(str(error)) from error
    frames = sum(truth['nframes'].values())
    print(
        f'{out}: {len(truth["labels"])} actions, {len(truth["nframes"])} '
        f'videos, {frames:,} frames'
    )
    return EXIT_OK


if __name__ == '__main__':
    sys.exit(run_tool(main, 'jhmdb_actions'))

"""Write toy pose data in the layout of sub-JHMDB.

Example::

    python tools/make_toy_sub_jhmdb.py data/toy_sub_jhmdb

Numbers of videos are per action and split. Run again with the same
arguments it does nothing.
"""

import sys
from collections.abc import Sequence

from mmskip.apis.errors import run_tool
from mmskip.toy import make_toy_sub_jhmdb
from mmskip.toy.folder import write_toy_data
from mmskip.toy.joints import MOVES

DEFAULTS = dict(
    train_videos=16, test_videos=4, frames=(16, 32), size=(128, 96)
)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the data set and show progress."""
    return write_toy_data(
        'toy sub-JHMDB',
        make_toy_sub_jhmdb,
        __doc__,
        DEFAULTS,
        lambda args: len(MOVES) * (args.train_videos + args.test_videos),
        argv,
    )


if __name__ == '__main__':
    sys.exit(run_tool(main, 'make_toy_sub_jhmdb'))

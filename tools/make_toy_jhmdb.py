"""Write toy localisation data in the layout of J-HMDB.

Example::

    python tools/make_toy_jhmdb.py data/toy_jhmdb

Numbers of videos are per action and split. Run again with the same
arguments it does nothing.
"""

import sys
from collections.abc import Sequence

from mmskip.apis.errors import run_tool
from mmskip.toy import make_toy_jhmdb
from mmskip.toy.figures import ACTIONS
from mmskip.toy.folder import write_toy_data

DEFAULTS = dict(
    train_videos=12, test_videos=6, frames=(12, 24), size=(128, 96)
)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the data set and show progress."""
    return write_toy_data(
        'toy J-HMDB',
        make_toy_jhmdb,
        __doc__,
        DEFAULTS,
        lambda args: len(ACTIONS) * (args.train_videos + args.test_videos),
        argv,
    )


if __name__ == '__main__':
    sys.exit(run_tool(main, 'make_toy_jhmdb'))

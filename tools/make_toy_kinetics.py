"""Write static, slow and fast toy action videos in the layout of Kinetics.

Example::

    python tools/make_toy_kinetics.py data/toy_kinetics

Run again with the same arguments it does nothing.
"""

import sys
from collections.abc import Sequence

from mmskip.apis.errors import run_tool
from mmskip.toy import make_toy_kinetics
from mmskip.toy.folder import write_toy_data

DEFAULTS = dict(
    train_videos=600, test_videos=240, frames=32, fps=10.0, size=(96, 80)
)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the data set and show progress."""
    return write_toy_data(
        'toy Kinetics',
        make_toy_kinetics,
        __doc__,
        DEFAULTS,
        lambda args: args.train_videos + args.test_videos,
        argv,
    )


if __name__ == '__main__':
    sys.exit(run_tool(main, 'make_toy_kinetics'))

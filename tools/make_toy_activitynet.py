"""Write toy untrimmed videos in the layout of ActivityNet.

Example::

    python tools/make_toy_activitynet.py data/toy_activitynet

Run again with the same arguments it does nothing.
"""

import sys
from collections.abc import Sequence

from mmskip.apis.errors import run_tool
from mmskip.toy import make_toy_activitynet
from mmskip.toy.folder import write_toy_data

DEFAULTS = dict(
    train_videos=400, test_videos=160, frames=60, fps=10.0, size=(112, 112)
)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the data set and show progress."""
    return write_toy_data(
        'toy ActivityNet',
        make_toy_activitynet,
        __doc__,
        DEFAULTS,
        lambda args: args.train_videos + args.test_videos,
        argv,
    )


if __name__ == '__main__':
    sys.exit(run_tool(main, 'make_toy_activitynet'))

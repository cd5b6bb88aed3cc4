"""Write toy untrimmed action videos in the layout of ActivityNet.

Example::

    python tools/make_toy_activitynet.py data/toy_activitynet

Run again with the same arguments it does nothing.
"""

import sys
from collections.abc import Sequence

from mmskip.apis.errors import run_tool
from mmskip.apis.toy_videos import write_toy_videos
from mmskip.datasets.toy import make_toy_activitynet

DEFAULTS = dict(train_videos=400, test_videos=160, frames=60, size=(112, 112))


def main(argv: Sequence[str] | None = None) -> int:
    """Write the data set and show progress."""
    description = __doc__.split('\n', 1)[0]
    return write_toy_videos(
        'toy ActivityNet', make_toy_activitynet, description, DEFAULTS, argv
    )


if __name__ == '__main__':
    sys.exit(run_tool(main, 'make_toy_activitynet'))

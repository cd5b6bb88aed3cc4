"""Write toy action videos in the layout of HMDB51.

Example::

    python tools/make_toy_hmdb51.py data/toy_hmdb51

Numbers of videos are per class and split. Run again with the same arguments
it does nothing.
"""

import sys
from collections.abc import Sequence

from mmskip.apis.errors import run_tool
from mmskip.apis.toy_videos import write_toy_videos
from mmskip.datasets.toy import make_toy_hmdb51

DEFAULTS = dict(train_videos=40, test_videos=30, frames=32, size=(112, 96))


def main(argv: Sequence[str] | None = None) -> int:
    """Write the data set and show progress."""
    description = __doc__.split('\n', 1)[0]
    return write_toy_videos(
        'toy HMDB51', make_toy_hmdb51, description, DEFAULTS, argv
    )


if __name__ == '__main__':
    sys.exit(run_tool(main, 'make_toy_hmdb51'))

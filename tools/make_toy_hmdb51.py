"""Write toy action videos in the layout of HMDB51.

Example::

    python tools/make_toy_hmdb51.py data/toy_hmdb51

Numbers of videos are per class and split. Run again with the same
arguments it does nothing.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmskip.apis.errors import run_tool
from mmskip.toy import ClassVideos, make_toy_hmdb51
from mmskip.toy.folder import write_toy_data
from mmskip.toy.joints import MOVES

DEFAULTS = dict(
    train_videos=40,
    test_videos=30,
    unused_videos=2,
    frames=32,
    fps=10.0,
    size=(112, 96),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the data set and show progress."""
    return write_toy_data(
        'toy HMDB51',
        _make,
        __doc__,
        DEFAULTS,
        lambda args: (
            len(MOVES)
            * (args.train_videos + args.test_videos + args.unused_videos)
        ),
        argv,
    )


def _make(root: str, **options: Any) -> Path:
    videos = ClassVideos(
        *(options.pop(f'{use}_videos') for use in ('train', 'test', 'unused'))
    )
    return make_toy_hmdb51(root, videos=videos, **options)


if __name__ == '__main__':
    sys.exit(run_tool(main, 'make_toy_hmdb51'))

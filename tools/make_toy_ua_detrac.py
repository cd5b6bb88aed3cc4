"""Write a toy UA-DETRAC in the layout of the original release.

Example::

    python tools/make_toy_ua_detrac.py data/toy_ua_detrac

Run again with the same arguments it does nothing.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmskip.apis.errors import run_tool
from mmskip.toy import Sequences, make_toy_ua_detrac
from mmskip.toy.folder import write_toy_data

DEFAULTS = dict(
    train_sequences=96,
    test_sequences=6,
    frames=40,
    train_frames=8,
    size=(448, 256),
    density=0.4,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the data set and show progress."""
    return write_toy_data(
        'toy UA-DETRAC',
        _make,
        __doc__,
        DEFAULTS,
        lambda args: (
            args.train_sequences * args.train_frames
            + args.test_sequences * args.frames
        ),
        argv,
        unit='frame',
    )


def _make(root: str, **options: Any) -> Path:
    train = Sequences(
        options.pop('train_sequences'), options.pop('train_frames')
    )
    test = Sequences(options.pop('test_sequences'), options.pop('frames'))
    return make_toy_ua_detrac(root, train=train, test=test, **options)


if __name__ == '__main__':
    sys.exit(run_tool(main, 'make_toy_ua_detrac'))

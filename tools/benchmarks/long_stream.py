"""Does a long stream drift, or grow?

A small network of Skip-Convolutions sees noise: in each frame a share of the
pixels is new. The gates' threshold is 0, so outputs should be those of the
dense network, and what deviates from them is rounding that added up. Both
backends see the same frames; the native one, layer by layer and with changes
propagated, should deviate no more than the torch reference, and the memory of
the process should stay what it is.
"""

import argparse
import copy
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from mmskip import (
    SkipConversion,
    convert,
    fold,
    stream,
)
from mmskip.apis import UserError
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.native import library as native
from mmskip.plan import propagate_changes
from mmskip.skip_conv import MEMORY_RULES

MIB = 2**20
CHANNELS = 16
# New pixels in each frame.
SHARE = 0.05


class Look(NamedTuple):
    """A stream after some frames.

    Attributes:
        frame: How many.
        deviation: Of the output from the dense one, at most, as a share of
            the largest output.
        resident: Bytes of memory that the process holds.
    """

    frame: int
    deviation: float
    resident: int


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--frames', type=int, default=10_000)
    parser.add_argument('--looks', type=int, default=5, help='rows')
    parser.add_argument('--size', type=int, default=24, help='of the frames')
    args = parser.parse_args(argv)
    if not 1 < args.looks <= args.frames or args.size < 1:
        parser.error('expected --frames >= --looks > 1 and --size > 0')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    if native.MISSING:
        raise UserError(f'there is nothing to compare: {native.MISSING}')
    every = args.frames // args.looks
    table = Table(title=f'{args.size} x {args.size}, {SHARE:.0%} new pixels')
    for column in ('memory', 'backend', 'frame', 'deviation', 'MiB'):
        table.add_column(column)
    for rule in MEMORY_RULES:
        for backend in ('reference', 'native', 'propagation'):
            own = backend == 'propagation'
            os.environ['MMSKIP_BACKEND'] = 'native' if own else backend
            looks = watch(rule, args.size, args.frames, every, own)
            for frame, deviation, resident in looks:
                size = f'{resident / MIB:.1f}'
                table.add_row(
                    rule, backend, str(frame), f'{deviation:.1e}', size
                )
    Console().print(table)
    return EXIT_OK


@torch.inference_mode()
def watch(
    rule: str, size: int, frames: int, every: int, propagates: bool
) -> list[Look]:
    """Run a stream on noise, and look at it from time to time.

    Args:
        rule: The memory of the layers.
        size: Of the frames, in pixels.
        frames: How many of them.
        every: Frames from one look to the next.
        propagates: Whether layers tell each other what changed.
    """
    torch.manual_seed(0)
    net = make_net()
    dense = copy.deepcopy(net)
    gate = dict(type='InputNormGate', threshold=0.0)
    convert(net, SkipConversion(gate, memory=rule))
    fold(net)
    if propagates:
        propagate_changes(net)
    looks = []
    with stream(net):
        for index, x in enumerate(_noise(size, frames), 1):
            output = net(x)
            if index % every == 0:
                expected = dense(x)
                off = (output - expected).abs().max() / expected.abs().max()
                looks.append(Look(index, off.item(), resident_bytes()))
    return looks


def make_net() -> nn.Module:
    """Dense, depthwise and pointwise convolutions, and activations."""
    return nn.Sequential(
        nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS),
        nn.SiLU(),
        nn.Conv2d(CHANNELS, CHANNELS, 1),
        nn.ReLU(),
        nn.Conv2d(CHANNELS, 4, 3, padding=1),
    ).eval()


def resident_bytes() -> int:
    """Memory that this process holds (Linux)."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE')


def _noise(size: int, frames: int) -> Iterator[Tensor]:
    x = torch.randn(1, 3, size, size)
    for _ in range(frames):
        yield x
        new = torch.rand(1, 1, size, size) < SHARE
        x = torch.where(new, torch.randn_like(x), x)


if __name__ == '__main__':
    sys.exit(run_tool(main, 'long_stream'))

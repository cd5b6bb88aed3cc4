"""Several cameras on one model: throughput, memory and delay over a day.

Each video is a camera that begins again at its end. First each is run alone,
then all together; then all together for as many frames as they would give in
``--hours``. Example::

    python tools/benchmarks/cameras.py CONFIG CHECKPOINT a.mp4 b.mp4 c.mp4 \
        d.mp4 --frames 200 --hours 1 --fps 5
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from mmengine.config import DictAction
from rich.console import Console
from rich.table import Table
from torch import nn

import mmskip
from mmskip.apis import FrameStream, init_model, open_reader
from mmskip.apis.cameras import Camera, Cameras
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.experiments import positive, write_json
from mmskip.video import Frame, FrameReader

#: Frames of a video that are kept and shown again and again.
KEPT = 64
#: Times that memory and delay are looked at.
LOOKS = 20


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='of a detector')
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument('videos', nargs='+', help='one for each camera')
    parser.add_argument(
        '--frames', type=positive, default=200, help='of each, for throughput'
    )
    parser.add_argument(
        '--hours', type=float, default=0, help='of the long run; 0 for none'
    )
    parser.add_argument('--fps', type=float, default=5, help='of that run')
    parser.add_argument('--workers', type=positive)
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    parser.add_argument('--out', type=Path, help='file for the numbers, JSON')
    return parser.parse_args(argv)


class Repeated(FrameReader):
    """Shows frames again and again.

    Args:
        name: Of the video.
        images: The frames.
        count: Number of frames until it ends.
    """

    def __init__(self, name: str, images: Sequence, count: int) -> None:
        super().__init__(name, 25.0, count, print)
        self._images = images

    def __iter__(self) -> Iterator[Frame]:
        images = islice(cycle(self._images), self.num_frames)
        for index, image in enumerate(images):
            yield Frame(index, image, index / self.fps)

    def close(self) -> None:
        """Nothing is open."""


def read_images(path: str) -> list:
    """Read the first frames of a video, and back again, without a jump."""
    with open_reader(path) as reader:
        images = [frame.image for frame in islice(reader, KEPT)]
    return images + images[-2:0:-1]


def run(
    model: nn.Module,
    readers: Sequence[FrameReader],
    workers: int | None,
    looks: list[dict[str, float]] | None = None,
) -> float:
    """Run cameras to their end; returns frames per second of all."""
    cameras = [
        Camera(
            str(number),
            reader,
            partial(
                FrameStream, with_mask=False, policy=mmskip.StreamPolicy()
            ),
        )
        for number, reader in enumerate(readers)
    ]
    total = sum(reader.num_frames for reader in readers)
    step, last, before = total / LOOKS, time.perf_counter(), 0
    start = last
    with Cameras(model, cameras, workers=workers) as running:
        for _ in running.wait():
            frames = sum(camera.totals.frames for camera in cameras)
            if looks is not None and frames >= step * (len(looks) + 1):
                now = time.perf_counter()
                looks.append(
                    dict(
                        frames=frames,
                        mib=resident_mib(),
                        ms=1000 * (now - last) / (frames - before),
                    )
                )
                last, before = now, frames
    for camera in cameras:
        if camera.error is not None:
            raise camera.error
    return total / (time.perf_counter() - start)


def resident_mib() -> float:
    """Memory of this process."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * 4096 / 2**20


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    model = init_model(
        args.config, args.checkpoint, cfg_options=args.cfg_options
    )
    mmskip.accelerate(model)
    images = [read_images(video) for video in args.videos]

    def readers(count: int) -> list[Repeated]:
        pairs = zip(args.videos, images, strict=True)
        return [Repeated(name, some, count) for name, some in pairs]

    run(model, readers(20), args.workers)  # to warm up
    alone = [run(model, [one], args.workers) for one in readers(args.frames)]
    together = run(model, readers(args.frames), args.workers)
    mean = len(alone) / sum(1 / fps for fps in alone)
    looks: list[dict[str, float]] = []
    if args.hours:
        count = int(args.hours * 3600 * args.fps)
        run(model, readers(count), args.workers, looks)
    result: dict[str, Any] = dict(
        alone=alone, mean=mean, together=together, day=looks
    )
    show(result)
    if args.out is not None:
        write_json(args.out, result)
    return EXIT_OK


def show(result: dict[str, Any]) -> None:
    """Print the numbers."""
    console = Console()
    alone = ', '.join(f'{fps:.1f}' for fps in result['alone'])
    console.print(f'frames/s, each alone: {alone}')
    console.print(
        f'frames/s, together: {result["together"]:.1f}, '
        f'{result["together"] / result["mean"]:.2f} of their mean'
    )
    table = Table('frames', 'MiB', 'ms/frame')
    for look in result['day']:
        table.add_row(
            str(look['frames']), f'{look["mib"]:.0f}', f'{look["ms"]:.2f}'
        )
    if result['day']:
        console.print(table)


if __name__ == '__main__':
    sys.exit(run_tool(main, 'cameras'))

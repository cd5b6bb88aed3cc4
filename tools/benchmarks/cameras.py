"""Several cameras on one model: throughput, memory and delay over a day.

Each video is a camera that begins again at its end. First each is run alone,
then all together; then all together for as many frames as each would give in
``--hours``. At every twentieth of these a row is written: the memory of the
process, the wall and CPU time per frame, and the median and the 99th
percentile of what the last frames took from the image to the boxes. Example::

    python tools/benchmarks/cameras.py CONFIG CHECKPOINT a.mp4 b.mp4 c.mp4 \
        d.mp4 --frames 200 --hours 24 --fps 5 --out day.json
"""

import argparse
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import DictAction
from rich.console import Console
from rich.table import Table
from torch import nn

import mmskip
from mmskip.apis import FrameStream, init_model, open_reader
from mmskip.apis.cameras import Camera, Cameras
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.experiments import positive, write_json
from mmskip.video import Frame, FrameReader, FrameResult

#: Frames of a video that are kept and shown again and again.
KEPT = 64
#: Times that memory and delay are looked at.
LOOKS = 20
#: Last frames whose delay is looked at.
DELAYS = 10_000


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
    look: 'Looks | None' = None,
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
    start = time.perf_counter()
    with Cameras(
        model, cameras, workers=workers, watch=look or (lambda *_: None)
    ) as running:
        for _ in running.wait():
            if look is not None:
                look.look(sum(camera.totals.frames for camera in cameras))
    for camera in cameras:
        if camera.error is not None:
            raise camera.error
    return total / (time.perf_counter() - start)


class Looks:
    """Looks at the process now and then, while cameras run.

    Args:
        total: Frames that there will be.
        tell: Called with the rows so far, after each.
    """

    def __init__(
        self, total: int, tell: Callable[[list[dict[str, float]]], None]
    ) -> None:
        self.rows: list[dict[str, float]] = []
        self._step = total / LOOKS
        self._tell = tell
        # All of it at once: it is not to look like memory that is lost.
        self._delays = deque([0.0] * DELAYS, DELAYS)
        self._last = 0, time.perf_counter(), time.process_time()

    def __call__(self, camera: Camera, result: FrameResult) -> None:
        """Take what a frame took, in a worker."""
        self._delays.append(result.seconds)

    def look(self, frames: int) -> None:
        """Add a row if another twentieth of the frames is done."""
        if frames < self._step * (len(self.rows) + 1):
            return
        now = frames, time.perf_counter(), time.process_time()
        more, wall, cpu = np.subtract(now, self._last)
        median, late = np.percentile(list(self._delays), (50, 99))
        self._last = now
        self.rows.append(
            dict(
                frames=frames,
                mib=resident_mib(),
                ms=1000 * wall / more,
                cpu_ms=1000 * cpu / more,
                median_ms=1000 * median,
                late_ms=1000 * late,
            )
        )
        self._tell(self.rows)


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
    result: dict[str, Any] = dict(
        alone=alone, mean=mean, together=together, day=[]
    )

    def tell(rows: list[dict[str, float]]) -> None:
        result['day'] = rows
        if args.out is not None:
            write_json(args.out, result)

    tell([])
    if args.hours:
        count = int(args.hours * 3600 * args.fps)
        look = Looks(count * len(images), tell)
        run(model, readers(count), args.workers, look)
    show(result)
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
    table = Table(
        'frames', 'MiB', 'ms/frame', 'CPU ms', 'median ms', '99 % below, ms'
    )
    for row in result['day']:
        frames, mib, *times = row.values()
        numbers = (f'{number:.2f}' for number in times)
        table.add_row(str(frames), f'{mib:.1f}', *numbers)
    if result['day']:
        console.print(table)


if __name__ == '__main__':
    sys.exit(run_tool(main, 'cameras'))

"""Time per video of recognizers, against what their MACs promise.

The models take turns, batch by batch, over the same videos of the first
config's test set, read beforehand, or over noise; what is timed is
``test_step``, with the normalisation of the frames. For each batch size the
medians over the repeats are summed over the batches. The first model is what
the others are compared with. Example::

    python tools/benchmarks/recognition_speed.py \
        tsn=TSN_CONFIG:TSN_CHECKPOINT sof=SOF_CONFIG:SOF_CHECKPOINT

With ``--used`` and ``--ended`` a SoF-Net replays decisions: its policies run,
but frames stop where they are told to. Those that neither come to the end nor
lie behind the end of their video stop at places drawn by :data:`STOPPED`.

``share`` is the part that came true of what the MACs predict:
(speed-up - 1) / (MAC ratio - 1); ``time_per_macs`` is the share of time saved
over that of MACs saved.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmaction.structures import ActionDataSample
from mmengine.registry import DATASETS
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from mmskip.apis import UserError, import_host, init_model, load_config
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.core import count_macs
from mmskip.experiments import positive, write_csv, write_json
from mmskip.plan import accelerate
from mmskip.sof_net import SoFRecognizer

GIGA = 1e9
CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}
#: How many of 100 stopped frames stop at each of five places. The thesis says
#: that the first and the last are common; the numbers are ours, and give the
#: MACs of its Table 4.5 at the frame usage of its Table 4.3.
STOPPED = (40, 12, 10, 8, 30)


class Batch(NamedTuple):
    """Videos that are recognised together.

    Attributes:
        videos: Items of a data set.
        stops: Decisions that a SoF-Net replays, one list per video; None: it
            decides.
    """

    videos: list[dict[str, Any]]
    stops: list[list[int]] | None


class Entry(NamedTuple):
    """A model to be timed.

    Attributes:
        name: What it is called.
        config: Its config file.
        checkpoint: Its weights; None leaves random ones.
    """

    name: str
    config: str
    checkpoint: str | None


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'models',
        nargs='+',
        type=read_entry,
        metavar='NAME=CONFIG[:CHECKPOINT]',
        help='the first one is what the others are compared with',
    )
    parser.add_argument(
        '--batch-sizes', type=positive, nargs='+', default=[1, 8], metavar='N'
    )
    parser.add_argument(
        '--videos', type=positive, default=64, help='of the test set'
    )
    parser.add_argument('--repeats', type=positive, default=5)
    parser.add_argument('--device', default='cpu')
    parser.add_argument(
        '--accelerate',
        action='store_true',
        help='prepare the models for inference (mmskip.accelerate)',
    )
    parser.add_argument(
        '--noise',
        type=positive,
        nargs=2,
        metavar=('T', 'SIZE'),
        help='videos of T frames of noise in place of the test set',
    )
    parser.add_argument(
        '--used',
        type=share,
        help='share of frames that a SoF-Net forwards to the end',
    )
    parser.add_argument(
        '--ended',
        type=share,
        default=0.0,
        help='share of frames behind the end of their video; with --used',
    )
    parser.add_argument(
        '--clock',
        choices=CLOCKS,
        default='wall',
        help='cpu: time that the CPUs spent on this process',
    )
    parser.add_argument(
        '--out', type=Path, help='folder for speed.json and speed.csv'
    )
    args = parser.parse_args(argv)
    if args.used is not None and args.used + args.ended > 1:
        parser.error('--used and --ended: expected at most 1 in sum')
    return args


def share(text: str) -> float:
    """Read a share from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(
            f'expected a share from 0 to 1, got {text!r}'
        )
    return value


def read_entry(text: str) -> Entry:
    """Take ``NAME=CONFIG[:CHECKPOINT]`` apart."""
    name, equals, files = text.partition('=')
    if not equals or not name or not files:
        raise argparse.ArgumentTypeError(
            f'expected NAME=CONFIG[:CHECKPOINT], got {text!r}'
        )
    config, _, checkpoint = files.partition(':')
    return Entry(name, config, checkpoint or None)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    names = [entry.name for entry in args.models]
    if len(set(names)) < len(names):
        raise UserError(f'expected a name of its own for each, got {names}')
    models = {entry.name: make_model(entry, args) for entry in args.models}
    if args.noise is None:
        videos = read_videos(args.models[0].config, args.videos)
    else:
        videos = make_noise(args.videos, *args.noise)
    stops = None
    if args.used is not None:
        frames = len(videos[0]['inputs'])
        stops = draw_stops(len(videos), frames, args.used, args.ended)
    rows = []
    for size in args.batch_sizes:
        batches = [
            Batch(videos[at : at + size], stops and stops[at : at + size])
            for at in range(0, len(videos), size)
        ]
        rows += compare(models, batches, args.repeats, CLOCKS[args.clock])
    print_rows(rows)
    if args.out is not None:
        write_csv(args.out / 'speed.csv', rows)
        write_json(
            args.out / 'speed.json',
            dict(
                models={e.name: e._asdict() for e in args.models},
                videos=len(videos),
                device=args.device,
                accelerated=args.accelerate,
                clock=args.clock,
                stops=stops,
                threads=torch.get_num_threads(),
                torch=torch.__version__,
                rows=rows,
            ),
        )
    return EXIT_OK


def make_model(entry: Entry, args: argparse.Namespace) -> nn.Module:
    """Build a recognizer for inference.

    Raises:
        UserError: The config is of another host.
    """
    if import_host(load_config(entry.config)) != 'mmaction':
        raise UserError(f'{entry.config}: expected the config of a recognizer')
    model = init_model(entry.config, entry.checkpoint, args.device)
    if args.accelerate:
        print(f'{entry.name}: {accelerate(model)}')
    return model


def read_videos(config: str, count: int) -> list[dict[str, Any]]:
    """Load the first videos of the test set into memory."""
    cfg = load_config(config)
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    count = min(count, len(dataset))
    return [dataset[i] for i in track(range(count), 'Reading the videos')]


def make_noise(count: int, frames: int, size: int) -> list[dict[str, Any]]:
    """Make videos of noise as a data set packs them."""
    draws = torch.Generator().manual_seed(0)
    return [
        dict(
            inputs=torch.randint(
                256,
                (frames, 3, size, size),
                dtype=torch.uint8,
                generator=draws,
            ),
            data_samples=ActionDataSample(),
        )
        for _ in range(count)
    ]


def draw_stops(
    videos: int, frames: int, used: float, ended: float
) -> list[list[int]]:
    """Draw where frames stop, the same in each run.

    Args:
        videos: Number of videos.
        frames: T.
        used: Share of all frames that come to the end.
        ended: Share of all frames behind the end of their video; none of the
            first quarter of a video is.

    Returns:
        Places from 0 to 5 for each frame, -1 for those behind the end.
    """
    draws = random.Random(0)
    lengths = [frames] * videos
    least = frames // 4
    for _ in range(min(round(ended * videos * frames), 3 * least * videos)):
        longer = [v for v in range(videos) if lengths[v] > least]
        # Half of the videos go on to their end while others can end.
        some = [v for v in longer if v % 2 == 0] or longer
        lengths[draws.choice(some)] -= 1
    examined = [(v, t) for v in range(videos) for t in range(lengths[v])]
    draws.shuffle(examined)
    count = round(used * videos * frames)
    stops = [[-1] * frames for _ in range(videos)]
    for v, t in examined[:count]:
        stops[v][t] = len(STOPPED)
    for v, t in examined[count:]:
        (stops[v][t],) = draws.choices(range(len(STOPPED)), STOPPED)
    return stops


def compare(
    models: dict[str, nn.Module],
    batches: list[Batch],
    repeats: int,
    clock: Callable[[], float],
) -> list[dict[str, Any]]:
    """Time the models on batches.

    Returns:
        A row per model: milliseconds and GMAC per video, ``speedup`` and
        ``reduction`` against the first one, and which share of the saved
        MACs is saved time, in two ways (NaN where no MACs are).
    """
    size, total = len(batches[0].videos), sum(len(b.videos) for b in batches)
    gmac = {name: count(model, batches) for name, model in models.items()}
    times: dict[str, list[float]] = {name: [] for name in models}
    for batch in track(batches, f'Timing batches of {size}'):
        medians = time_batch(models, batch, repeats, clock)
        for name, median in medians.items():
            times[name].append(median)
    rows = []
    for name in models:
        ms = 1e3 * sum(times[name]) / total
        first = rows[0] if rows else dict(ms=ms, gmac=gmac[name])
        saved_time = 1 - ms / first['ms']
        saved_macs = 1 - gmac[name] / first['gmac']
        gain = first['gmac'] / gmac[name] - 1
        rows.append(
            dict(
                model=name,
                batch_size=size,
                ms=ms,
                gmac=gmac[name],
                speedup=first['ms'] / ms,
                reduction=first['gmac'] / gmac[name],
                saved_time=saved_time,
                saved_macs=saved_macs,
                time_per_macs=saved_time / saved_macs
                if saved_macs
                else float('nan'),
                share=(first['ms'] / ms - 1) / gain if gain else float('nan'),
            )
        )
    return rows


def time_batch(
    models: dict[str, nn.Module],
    batch: Batch,
    repeats: int,
    clock: Callable[[], float],
) -> dict[str, float]:
    """Median seconds of each model for a batch; they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(repeats):
        for name, model in models.items():
            data = collate(batch.videos)
            synchronise(model)
            start = clock()
            step(model, data, batch.stops)
            synchronise(model)
            seconds[name].append(clock() - start)
    return {name: statistics.median(found) for name, found in seconds.items()}


def count(model: nn.Module, batches: list[Batch]) -> float:
    """GMAC per video, policies and gates included."""
    with count_macs(model) as macs:
        for batch in batches:
            step(model, collate(batch.videos), batch.stops)
    videos = sum(len(batch.videos) for batch in batches)
    return int(macs.total().spent) / GIGA / videos


@torch.inference_mode()
def step(
    model: nn.Module,
    data: dict[str, list],
    stops: list[list[int]] | None = None,
) -> Any:
    """Recognise a batch; a SoF-Net may replay decisions."""
    replays = stops is not None and isinstance(model, SoFRecognizer)
    with model.force_decisions(stops) if replays else nullcontext():
        return model.test_step(data)


def collate(batch: list[dict[str, Any]]) -> dict[str, list]:
    """A batch as a loader makes it."""
    return {key: [video[key] for video in batch] for key in batch[0]}


def synchronise(model: nn.Module) -> None:
    """Wait for the GPU."""
    device = next(model.parameters()).device
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    """The rows as a table."""
    table = Table(title='recognition, per video')
    table.add_column('model')
    columns = 'batch', 'ms', 'GMAC', 'speed', 'MACs', 'time/MACs saved', 'of'
    for name in columns:
        table.add_column(name, justify='right')
    for row in rows:
        table.add_row(
            row['model'],
            str(row['batch_size']),
            f'{row["ms"]:.2f}',
            f'{row["gmac"]:.4g}',
            f'{row["speedup"]:.2f}x',
            f'{row["reduction"]:.2f}x fewer',
            f'{row["time_per_macs"]:.2f}',
            f'{row["share"]:.0%}',
        )
    Console().print(table)


if __name__ == '__main__':
    sys.exit(run_tool(main, 'recognition_speed'))

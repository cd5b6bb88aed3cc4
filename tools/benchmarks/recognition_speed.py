"""Time per video of recognizers, against what their MACs promise.

The models take turns, batch by batch, over the same videos of the first
config's test set, read beforehand; what is timed is ``test_step``, with the
normalisation of the frames. For each batch size the medians over the repeats
are summed over the batches. The first model is what the others are compared
with. Example::

    python tools/benchmarks/recognition_speed.py \
        tsn=TSN_CONFIG:TSN_CHECKPOINT sof=SOF_CONFIG:SOF_CHECKPOINT
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.registry import DATASETS
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from mmskip.apis import UserError, import_host, init_model, load_config
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.core import count_macs
from mmskip.experiments import positive, write_csv, write_json
from mmskip.plan import fold

GIGA = 1e9


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
        '--fold',
        action='store_true',
        help='prepare the models for inference (mmskip.fold)',
    )
    parser.add_argument(
        '--out', type=Path, help='folder for speed.json and speed.csv'
    )
    return parser.parse_args(argv)


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
    videos = read_videos(args.models[0].config, args.videos)
    rows = [
        row
        for size in args.batch_sizes
        for row in compare(models, videos, size, args.repeats)
    ]
    print_rows(rows)
    if args.out is not None:
        write_csv(args.out / 'speed.csv', rows)
        write_json(
            args.out / 'speed.json',
            dict(
                models={e.name: e._asdict() for e in args.models},
                videos=len(videos),
                device=args.device,
                folded=args.fold,
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
    if args.fold:
        print(f'{entry.name}: {fold(model)}')
    return model


def read_videos(config: str, count: int) -> list[dict[str, Any]]:
    """Load the first videos of the test set into memory."""
    cfg = load_config(config)
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    count = min(count, len(dataset))
    return [dataset[i] for i in track(range(count), 'Reading the videos')]


def compare(
    models: dict[str, nn.Module],
    videos: list[dict[str, Any]],
    size: int,
    repeats: int,
) -> list[dict[str, Any]]:
    """Time the models at a batch size.

    Returns:
        A row per model: milliseconds and GMAC per video, ``speedup`` and
        ``reduction`` against the first one, and which share of the saved
        MACs is saved time (NaN where no MACs are).
    """
    batches = [videos[at : at + size] for at in range(0, len(videos), size)]
    gmac = {name: count(model, batches) for name, model in models.items()}
    times: dict[str, list[float]] = {name: [] for name in models}
    for batch in track(batches, f'Timing batches of {size}'):
        for name, median in time_batch(models, batch, repeats).items():
            times[name].append(median)
    rows = []
    for name in models:
        ms = 1e3 * sum(times[name]) / len(videos)
        first = rows[0] if rows else dict(ms=ms, gmac=gmac[name])
        saved_time = 1 - ms / first['ms']
        saved_macs = 1 - gmac[name] / first['gmac']
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
            )
        )
    return rows


def time_batch(
    models: dict[str, nn.Module], batch: list[dict[str, Any]], repeats: int
) -> dict[str, float]:
    """Median seconds of each model for a batch; they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(repeats):
        for name, model in models.items():
            data = collate(batch)
            synchronise(model)
            start = time.perf_counter()
            step(model, data)
            synchronise(model)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in seconds.items()}


def count(model: nn.Module, batches: list[list[dict[str, Any]]]) -> float:
    """GMAC per video, policies and gates included."""
    with count_macs(model) as macs:
        for batch in batches:
            step(model, collate(batch))
    videos = sum(map(len, batches))
    return int(macs.total().spent) / GIGA / videos


@torch.inference_mode()
def step(model: nn.Module, data: dict[str, list]) -> Any:
    """Recognise a batch."""
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
    for name in ('batch', 'ms', 'GMAC', 'speed', 'MACs', 'time/MACs saved'):
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
        )
    Console().print(table)


if __name__ == '__main__':
    sys.exit(run_tool(main, 'recognition_speed'))

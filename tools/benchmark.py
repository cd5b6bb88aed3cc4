"""Time of a model on video frames: Skip-Convolutions, and what is run instead.

All run in one process and take turns, frame by frame, in inference mode. The
part of the model with Skip-Convolutions follows changes through all of its
steps (mmskip.accelerate), in each --precision. Its rivals compute all of
every frame: eager PyTorch (channels_last, batch norms folded), torch.compile,
OpenVINO in float32, in bfloat16 where the CPU has instructions for it and,
where nncf is installed, in integers of 8 bits (post-training quantisation with
frames of the benchmark), and ONNX Runtime. `pip install 'mmskip[benchmark]'`
brings all of them but nncf, which is yours to install.

Which outputs fire is forced, so that a share of every layer is active: one
blob, scattered blocks of 8 x 8, or scattered pixels. Inside of them every
input changes, outside nothing does. Layers that are run on images of several
sizes compute where their inputs changed. With --video it is a real video, and
the gates are those of the config.

How to read the rows: `macs` is how many times fewer MACs the convolutions of
a skip frame do. `error` is how far the outputs are from those of eager PyTorch
in float32, the largest difference as a share of the largest output, on a frame
that is computed as a whole. `speed-up` is against the fastest rival that is
fair: whose error is no larger than that of the row, or 0.001. Medians are
compared. Beyond the break-even share of active outputs, skipping loses.
`MiB/stream` is what the memory of a stream holds between two frames.
"""

import argparse
import itertools
import os
import subprocess
import sys
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.apis.launch import add_config_options
from mmskip.experiments import (
    PATTERNS,
    RIVALS,
    WARM_UP,
    Contest,
    RawOutputs,
    build_parts,
    build_rivals,
    build_skips,
    converted,
    force,
    forced_frames,
    is_fair,
    measure,
    video_frames,
    write_csv,
    write_json,
)
from mmskip.native import active_backend
from mmskip.plan import PRECISIONS, AccelerationReport
from mmskip.skip_conv import stream
from mmskip.visualization import new_figure, save_figure

#: Instructions that decide how fast a type is computed.
CPU_FLAGS = (
    *('avx2', 'avx512f', 'avx512_bf16', 'avx512_vnni'),
    *('amx_bf16', 'amx_int8'),
)

# It ends with the process that began it, however that ends.
SPIN = """
import os
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(100000):
        pass
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('config', help='config of any model')
    add(
        '--part',
        default='backbone',
        help="part of the model that is timed; '' is all of it, up to its raw "
        'outputs',
    )
    add('--size', type=int, nargs=2, default=(256, 256), metavar=('W', 'H'))
    add(
        '--active',
        type=float,
        nargs='+',
        default=[0.0, 0.125, 0.25, 0.4, 0.7, 1.0],
        help='shares of the outputs that fire; 0 is a static frame',
    )
    add('--patterns', nargs='+', choices=PATTERNS, default=['blob'])
    add('--video', help='a video instead of forced outputs')
    add(
        '--threshold',
        type=float,
        default=0.2,
        help='of the gates for --video, if the config has none',
    )
    add(
        '--precision',
        nargs='+',
        choices=PRECISIONS,
        default=['float32'],
        help='of the plans of the skipping model',
    )
    add(
        '--rivals',
        nargs='*',
        choices=RIVALS,
        default=['eager', 'openvino'],
        help='what skipping is compared with; compile takes minutes',
    )
    add(
        '--load',
        action='store_true',
        help='measure it all once more beside processes that keep every core '
        'busy',
    )
    add('--frames', type=int, default=30, help='per row')
    add('--threads', type=int, default=2)
    add('--layers', type=int, default=10, help='rows of the table of layers')
    add('--out', help='folder for CSV, JSON and a plot')
    add_config_options(parser)
    args = parser.parse_args(argv)
    if not all(0 <= share <= 1 for share in args.active):
        parser.error('--active: expected shares from 0 to 1')
    if args.frames < 1 or args.threads < 1:
        parser.error('--frames and --threads: expected at least 1')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    contest, missing, frames = set_up(args)
    with torch.inference_mode():
        rows = measure_all(args, contest, frames)
        layers = measure_layers(args, contest, frames)
    summary = dict(
        **settings(args),
        remarks={
            precision: remarks(contest.skips[precision].report)
            for precision in args.precision
        },
        missing=missing,
        best=best_rows(rows),
        break_even={
            f'{precision}, {pattern}': break_even(rows, pattern, precision)
            for precision in args.precision
            for pattern in args.patterns
            if args.video is None
        },
        skip_frame_ms_by_layer=layers,
    )
    show(summary, rows, args.layers)
    if args.out is not None:
        write(summary, rows, Path(args.out))
    return EXIT_OK


def set_up(
    args: argparse.Namespace,
) -> tuple[Contest, dict[str, str], list[Tensor]]:
    """Build all contestants.

    Returns:
        The contestants, the reasons why rivals are missing, and the frames of
        the video; without one, frames that are new all over.
    """
    threshold = None if args.video is None else args.threshold
    dense, skip, preprocessor = build_parts(
        args.config, args.cfg_options, args.part, threshold
    )
    size, number = tuple(args.size), WARM_UP + args.frames
    if args.video is None:
        image = torch.randn(1, 3, *size[::-1])
        image = image.contiguous(memory_format=torch.channels_last)
        frames = forced_frames(image, 'blob', 1.0, number)
    else:
        frames = video_frames(args.video, size, preprocessor, number)
    skips = build_skips(skip, args.precision, frames)
    print(f'Building {", ".join(args.rivals) or "no rivals"}', flush=True)
    rivals, missing = build_rivals(args.rivals, dense, frames, args.threads)
    return Contest(dense, skips, rivals, args.precision), missing, frames


def measure_all(
    args: argparse.Namespace, contest: Contest, frames: Sequence[Tensor]
) -> list[dict]:
    """Measure all rows, those beside busy neighbours last."""
    inputs: list[tuple[str, float | None]] = [('video', None)]
    if args.video is None:
        shares = sorted(args.active)
        inputs = list(itertools.product(args.patterns, shares))
    rows = []
    for load in (False, True) if args.load else (False,):
        text = 'Timing' + ' beside busy neighbours' * load
        with busy_neighbours(num_cores()) if load else nullcontext():
            # What draws the progress would take time from what is timed.
            steps = track(inputs, text, refresh_per_second=1)
            for pattern, share in steps:
                rows += measure_row(contest, frames, pattern, share, load)
    return rows


def measure_row(
    contest: Contest,
    frames: Sequence[Tensor],
    pattern: str,
    share: float | None,
    load: bool,
) -> list[dict]:
    """Measure one input in all precisions; without a share, the frames."""
    if share is None:
        counted = len(frames) - 1
        return measure(contest, frames, pattern, share, counted, load)
    for skip in contest.skips.values():
        force(skip.sizes, pattern, share)
    frames = forced_frames(frames[0], pattern, share, len(frames))
    return measure(contest, frames, pattern, share, 1, load)


def measure_layers(
    args: argparse.Namespace, contest: Contest, frames: Sequence[Tensor]
) -> dict[str, float]:
    """Time layers in the first precision: of a static frame, or a video."""
    skip = contest.skips[args.precision[0]]
    if args.video is None:
        force(skip.sizes, args.patterns[0], 0.0)
        frames = [frames[0]] * len(frames)
    return time_layers(skip.model, frames)


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the times depend on."""
    versions = dict(torch=torch.__version__)
    for name in ('openvino', 'nncf', 'onnxruntime'):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return dict(
        config=str(args.config),
        part=args.part,
        size=list(args.size),
        video=args.video,
        precisions=args.precision,
        frames=args.frames,
        threads=args.threads,
        backend=active_backend(),
        versions=versions,
        cpu=describe_cpu(),
    )


def describe_cpu() -> dict[str, Any]:
    """Return the name of the CPU and which of :data:`CPU_FLAGS` it has."""
    path = Path('/proc/cpuinfo')
    lines = path.read_text().splitlines() if path.exists() else []
    found: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(':')
        found.setdefault(key.strip(), value.strip())
    flags = found.get('flags', '').split()
    return dict(
        name=found.get('model name', 'unknown'),
        flags=[flag for flag in CPU_FLAGS if flag in flags],
    )


@contextmanager
def busy_neighbours(number: int) -> Iterator[list[subprocess.Popen]]:
    """Keep cores busy with processes that do nothing, as long as a block."""
    processes = []
    try:
        for _ in range(number):
            processes.append(
                subprocess.Popen(
                    [sys.executable, '-ISc', SPIN], stderr=subprocess.DEVNULL
                )
            )
        yield processes
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def remarks(report: AccelerationReport) -> list[str]:
    """Say why skipping is not as fast as it could be."""
    found = list(report.notes)
    for part, counts in report.plans.rows.items() if report.plans else ():
        found += [
            f'{part or "all of it"}: {number} frames {what}'
            for what, number in counts.items()
            if what.startswith(('without', 'planned'))
        ]
    return found


def best_rows(rows: Sequence[dict]) -> list[dict]:
    """Find the fastest precision for each input."""
    best: dict[tuple, dict] = {}
    for row in rows:
        key = row['load'], row['pattern'], row['active']
        best[key] = min(
            best.get(key, row), row, key=lambda other: other['skip_ms']
        )
    return list(best.values())


def loaded_pairs(rows: Sequence[dict]) -> list[tuple[dict, dict]]:
    """Pair rows with those of the same measured beside busy neighbours."""
    quiet = {}
    pairs = []
    for row in rows:
        key = row['pattern'], row['active'], row['precision']
        if row['load']:
            pairs.append((quiet[key], row))
        else:
            quiet[key] = row
    return pairs


def break_even(
    rows: Sequence[dict], pattern: str, precision: str
) -> float | None:
    """Find the share of active outputs at which skipping gains nothing.

    By linear interpolation, without busy neighbours; None if skipping wins,
    or loses, everywhere, or has no fair rival.
    """
    mine = [
        (row['active'], 1 / row['speed_up'] - 1)
        for row in rows
        if (row['pattern'], row['precision']) == (pattern, precision)
        and row['speed_up']
        and not row['load']
    ]
    for (low, a), (high, b) in itertools.pairwise(mine):
        if a < 0 <= b:
            return low - a / (b - a) * (high - low)
    return None


def time_layers(
    model: RawOutputs, frames: Sequence[Tensor]
) -> dict[str, float]:
    """Time the layers of a skip frame, in ms; the rest is ''.

    Args:
        model: A converted part.
        frames: The first :data:`WARM_UP` are not timed.
    """
    times: dict[str, float] = defaultdict(float)
    started = {}
    names = {m: n for n, m in model.part.named_modules()}

    def begin(layer: nn.Module, _: tuple) -> None:
        started[layer] = perf_counter()

    def end(layer: nn.Module, *_: object) -> None:
        times[names[layer]] += perf_counter() - started[layer]

    with stream(model.part) as state, ExitStack() as stack:
        for frame in frames[:WARM_UP]:
            model(frame)
        for plan in state.plans.values():
            plan.clock = times
        for layer in converted(model):
            stack.enter_context(layer.register_forward_pre_hook(begin))
            stack.enter_context(layer.register_forward_hook(end))
        start = perf_counter()
        for frame in frames[WARM_UP:]:
            model(frame)
        whole = perf_counter() - start
    times[''] += whole - sum(times.values())
    number = len(frames) - WARM_UP
    return {name: 1e3 * t / number for name, t in times.items()}


def show(summary: dict, rows: Sequence[dict], num_layers: int) -> None:
    """Print the rows, what they come to, and the slowest layers."""
    console = Console()
    if not console.is_terminal:
        console.width = 160  # a table in a file is not cut to 80 columns
    title = '{config}, {threads} threads, {backend}'.format(**summary)
    console.print(_table(title, rows))
    for name, reason in summary['missing'].items():
        console.print(f'missing: {name}: {reason}', markup=False)
    for precision, found in summary['remarks'].items():
        for remark in found[:num_layers]:
            text = textwrap.shorten(f'in {precision}: {remark}', 150)
            console.print(text, markup=False)
    for row in summary['best']:
        console.print(_headline(row))
    for quiet, loaded in loaded_pairs(rows):
        console.print(_load_line(quiet, loaded))
    for name, share in summary['break_even'].items():
        text = 'none' if share is None else f'{share:.0%} active'
        console.print(f'break-even, {name}: {text}')
    layers = sorted(
        summary['skip_frame_ms_by_layer'].items(), key=lambda pair: -pair[1]
    )
    for name, ms in layers[:num_layers]:
        console.print(f'{ms:8.3f} ms  {name or "all that is no convolution"}')


def write(summary: dict, rows: Sequence[dict], folder: Path) -> None:
    """Write CSV, JSON and the plot."""
    write_json(folder / 'benchmark.json', summary)
    write_json(folder / 'rows.json', rows)
    write_csv(folder / 'benchmark.csv', [_flat(row) for row in rows])
    figure, axes = new_figure()
    lines = defaultdict(list)
    for row in rows:
        if row['mac_reduction'] and row['speed_up']:
            label = f'{row["precision"]}, {row["pattern"]}'
            label += ', busy cores' * row['load']
            lines[label].append((row['mac_reduction'], row['speed_up']))
    for label, points in lines.items():
        axes.plot(*zip(*points, strict=True), marker='o', label=label)
    limits = (0, max(1, axes.get_xlim()[1], axes.get_ylim()[1]))
    axes.plot(limits, limits, color='0.7', linestyle='--', label='one for one')
    axes.set(
        xlabel='times fewer MACs',
        ylabel='speed-up against the fastest fair rival',
    )
    axes.legend()
    save_figure(figure, folder / 'benchmark.png')


def _flat(row: dict) -> dict:
    """Give each figure of each rival a column of its own."""
    rivals = {
        f'{name} {key}': value
        for name, figures in row['rivals'].items()
        for key, value in figures.items()
    }
    return {k: v for k, v in row.items() if k != 'rivals'} | rivals


def _headline(row: dict) -> str:
    text = 'best skip{}, {pattern} {active:.1%}: {precision}, {skip_ms:.2f} ms'
    text = text.format(' on busy cores' * row['load'], **row)
    if row['fastest_rival'] is None:
        return f'{text}; no rival agrees as well'
    rival = row['rivals'][row['fastest_rival']]
    return (
        f'{text}, {row["speed_up"]:.2f}x as fast as {row["fastest_rival"]} '
        f'({rival["ms"]:.2f} ms)'
    )


def _load_line(quiet: dict, loaded: dict) -> str:
    name = '{precision}, {pattern} {active:.1%}'.format(**loaded)
    before, after = quiet['speed_up'], loaded['speed_up']
    change = f' ({after / before - 1:+.0%})' if before and after else ''
    return (
        f'busy cores, {name}: speed-up {_number(after, "x")} in place of '
        f'{_number(before, "x")}{change}'
    )


def _table(title: str, rows: Sequence[dict]) -> Table:
    columns: dict[str, Callable[[dict], str]] = {
        'pattern': lambda r: r['pattern'] + ', busy cores' * r['load'],
        'active': lambda r: f'{r["active"]:.1%}',
        'macs': lambda r: _number(r['mac_reduction'], 'x'),
        'precision': lambda r: r['precision'],
        'skip ms': lambda r: _number(r['skip_ms']),
        'error': lambda r: f'{r["error"]:.0e}',
        **{
            f'{name} ms': partial(_rival_cell, name)
            for name in rows[0]['rivals']
        },
        'speed-up': lambda r: _number(r['speed_up'], 'x'),
        'MiB/stream': lambda r: f'{r["mib_per_stream"]:.1f}',
    }
    table = Table(title=title, caption='(ms): agrees less well than skipping')
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(cell(row) for cell in columns.values()))
    return table


def _rival_cell(name: str, row: dict) -> str:
    rival = row['rivals'][name]
    text = _number(rival['ms'])
    return text if is_fair(rival, row['error']) else f'({text})'


def _number(value: float | None, unit: str = '') -> str:
    """Return a number as people read it."""
    return '-' if value is None else f'{value:.2f}{unit}'


if __name__ == '__main__':
    sys.exit(run_tool(main, 'benchmark'))

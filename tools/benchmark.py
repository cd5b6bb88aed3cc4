"""Time of a model on video frames, dense and with Skip-Convolutions.

Both run in one process and take turns, frame by frame: channels_last, with
batch norms folded, in inference mode. Which outputs fire is forced, so that
a share of every layer is active: one blob, scattered blocks of 8 x 8, or
scattered pixels. Inside of them every input changes, outside nothing does.

How to read the rows: `macs` is how many times fewer MACs the convolutions of
a skip frame do, `speed-up` how much sooner it is done, and `efficiency` the
second over the first. Static frames cost what `share` says of a dense one.
Beyond the break-even share of active outputs, skipping loses. Medians are
compared. `CPU time` is the speed-up by the time that the CPUs spent on this
process: with one thread (more threads spin while they wait) it says more than
the clock on a machine that does other work.
"""

import argparse
import copy
import itertools
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter, process_time

import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.registry import MODELS, init_default_scope
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import mmskip
from mmskip.apis import UserError, import_host, load_config
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.apis.experiments import write_csv, write_json
from mmskip.apis.forced_masks import (
    PATTERNS,
    RegionGate,
    converted,
    force,
    output_sizes,
    region,
)
from mmskip.apis.launch import add_config_options
from mmskip.layers import SkipConvMixin
from mmskip.ops import active_backend
from mmskip.visualization.figures import new_figure, save_figure

#: MAC reduction and speed-up on HRNet-w32, Skip-Conv (CVPR 2021), Table 2.
PAPER = ((2.51, 1.48), (4.33, 1.91), (7.92, 4.09))
WARM_UP = 3


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config of any model')
    parser.add_argument(
        '--part', default='backbone', help='part of the model that is timed'
    )
    parser.add_argument(
        '--size', type=int, nargs=2, default=(256, 256), metavar=('W', 'H')
    )
    parser.add_argument(
        '--active',
        type=float,
        nargs='+',
        default=[0.0, 0.125, 0.25, 0.4, 0.7, 1.0],
        help='shares of the outputs that fire; 0 is a static frame',
    )
    parser.add_argument('--patterns', nargs='+', choices=PATTERNS,
                        default=['blob'])  # fmt: skip
    parser.add_argument('--frames', type=int, default=30, help='per row')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--layers', type=int, default=10,
                        help='rows of the table of layers')  # fmt: skip
    parser.add_argument('--out', help='folder for CSV, JSON and a plot')
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
    dense, skip = build_pair(args)
    torch.manual_seed(0)
    image = torch.randn(1, 3, args.size[1], args.size[0])
    image = image.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        sizes = output_sizes(skip, image)
        rows = [
            measure(dense, skip, image, sizes, pattern, share, args.frames)
            for pattern in args.patterns
            for share in sorted(args.active)
        ]
        force(sizes, args.patterns[0], 0.0)
        layers = time_layers(skip, image, args.frames)
    result = dict(
        config=str(args.config),
        size=list(args.size),
        threads=args.threads,
        backend=active_backend(),
        torch=torch.__version__,
        break_even={p: break_even(rows, p) for p in args.patterns},
        rows=rows,
        static_frame_ms_by_layer=layers,
    )
    show(result, args.layers)
    if args.out is not None:
        write(result, Path(args.out))
    return EXIT_OK


def build_pair(args: argparse.Namespace) -> tuple[nn.Module, nn.Module]:
    """The dense part, and the same converted.

    Raises:
        UserError: The model has no such part.
    """
    cfg = load_config(args.config, args.cfg_options)
    init_default_scope(import_host(cfg))
    model = MODELS.build(cfg.model)
    try:
        dense = model.get_submodule(args.part)
    except AttributeError as error:
        raise UserError(f'--part {args.part}: {error}') from None
    if any(isinstance(m, SkipConvMixin) for m in dense.modules()):
        mmskip.revert(dense)
    dense.eval()
    dense = fuse_conv_bn(dense).to(memory_format=torch.channels_last)
    skip = copy.deepcopy(dense)
    mmskip.convert(
        skip,
        mmskip.SkipConversion(
            gate=dict(type='InputNormGate', threshold=0.0), roi_heads=True
        ),
    )
    for layer in converted(skip):
        layer.gate = RegionGate()
    return dense, skip


def measure(
    dense: nn.Module,
    skip: nn.Module,
    image: Tensor,
    sizes: dict[SkipConvMixin, torch.Size],
    pattern: str,
    share: float,
    frames: int,
) -> dict:
    """One row: both models on frames of which a share changes."""
    force(sizes, pattern, share)
    place = region(pattern, share, image.shape[2:])
    times = defaultdict(list)
    with mmskip.stream(skip) as state:
        skip(image)
        with mmskip.count_macs(skip) as macs:
            skip(torch.where(place, torch.randn_like(image), image))
        for _ in range(WARM_UP + frames):
            frame = torch.where(place, torch.randn_like(image), image)
            for name, model in (('dense', dense), ('skip', skip)):
                start = perf_counter(), process_time()
                model(frame)
                times[name].append(1e3 * (perf_counter() - start[0]))
                times[f'{name} cpu'].append(1e3 * (process_time() - start[1]))
        memory = state.nbytes
    ms = {k: statistics.median(v[WARM_UP:]) for k, v in times.items()}
    count = macs.total()
    reduction = count.dense / count.executed if count.executed else None
    speed_up = ms['dense'] / ms['skip']
    return dict(
        pattern=pattern,
        active=share,
        mac_reduction=reduction,
        speed_up=speed_up,
        efficiency=speed_up / reduction if reduction else None,
        dense_ms=ms['dense'],
        skip_ms=ms['skip'],
        share_of_dense=ms['skip'] / ms['dense'],
        dense_cpu_ms=ms['dense cpu'],
        skip_cpu_ms=ms['skip cpu'],
        cpu_speed_up=ms['dense cpu'] / ms['skip cpu'],
        state_bytes=memory,
    )


def break_even(rows: Sequence[dict], pattern: str) -> float | None:
    """The share of active outputs at which both take as long.

    By linear interpolation; None if skipping wins, or loses, everywhere.
    """
    mine = [row for row in rows if row['pattern'] == pattern]
    for low, high in itertools.pairwise(mine):
        a, b = low['share_of_dense'] - 1, high['share_of_dense'] - 1
        if a < 0 <= b:
            width = high['active'] - low['active']
            return low['active'] - a / (b - a) * width
    return None


def time_layers(
    model: nn.Module, image: Tensor, frames: int
) -> dict[str, float]:
    """Where the time of a static skip frame goes, in ms; the rest is ''."""
    times: dict[str, float] = defaultdict(float)
    started = {}
    names = {m: n for n, m in model.named_modules()}

    def begin(layer: nn.Module, _: tuple) -> None:
        started[layer] = perf_counter()

    def end(layer: nn.Module, *_: object) -> None:
        times[names[layer]] += perf_counter() - started[layer]

    with mmskip.stream(model):
        model(image)
        model(image)
        handles = []
        for layer in converted(model):
            handles.append(layer.register_forward_pre_hook(begin))
            handles.append(layer.register_forward_hook(end))
        start = perf_counter()
        for _ in range(frames):
            model(image)
        whole = perf_counter() - start
        for handle in handles:
            handle.remove()
    times[''] = whole - sum(times.values())
    return {name: 1e3 * t / frames for name, t in times.items()}


def show(result: dict, num_layers: int) -> None:
    """Print the rows, the break-even points and the slowest layers."""
    console = Console()
    # A table that goes to a file is not cut to 80 columns.
    console.width = max(console.width, 110)
    title = '{config}, {threads} threads, {backend}'.format(**result)
    table = Table(title=title)
    columns: dict[str, Callable[[dict], str]] = {
        'pattern': lambda r: r['pattern'],
        'active': lambda r: f'{r["active"]:.1%}',
        'macs': lambda r: number(r['mac_reduction'], 'x'),
        'speed-up': lambda r: number(r['speed_up'], 'x'),
        'efficiency': lambda r: number(r['efficiency']),
        'dense ms': lambda r: number(r['dense_ms']),
        'skip ms': lambda r: number(r['skip_ms']),
        'CPU time': lambda r: number(r['cpu_speed_up'], 'x'),
        'share': lambda r: f'{r["share_of_dense"]:.1%}',
        'MiB/stream': lambda r: f'{r["state_bytes"] / 2**20:.1f}',
    }
    for column in columns:
        table.add_column(column)
    for row in result['rows']:
        table.add_row(*(cell(row) for cell in columns.values()))
    console.print(table)
    for pattern, share in result['break_even'].items():
        text = 'none' if share is None else f'{share:.0%} active'
        console.print(f'break-even, {pattern}: {text}')
    layers = sorted(
        result['static_frame_ms_by_layer'].items(), key=lambda pair: -pair[1]
    )
    for name, ms in layers[:num_layers]:
        console.print(f'{ms:8.3f} ms  {name or "all that is no convolution"}')


def number(value: float | None, unit: str = '') -> str:
    """A number for people."""
    return '-' if value is None else f'{value:.2f}{unit}'


def write(result: dict, folder: Path) -> None:
    """Write CSV, JSON and the plot."""
    write_json(folder / 'benchmark.json', result)
    write_csv(folder / 'benchmark.csv', result['rows'])
    figure, axes = new_figure()
    for pattern in result['break_even']:
        points = [
            (r['mac_reduction'], r['speed_up'])
            for r in result['rows']
            if r['pattern'] == pattern and r['mac_reduction']
        ]
        axes.plot(*zip(*points, strict=True), marker='o', label=pattern)
    axes.plot(*zip(*PAPER, strict=True), 'kx', label="the paper's, Table 2")
    limits = (1, max(axes.get_xlim()[1], axes.get_ylim()[1]))
    axes.plot(limits, limits, color='0.7', linestyle='--')
    axes.set(xlabel='times fewer MACs', ylabel='speed-up')
    axes.legend()
    save_figure(figure, folder / 'benchmark.png')


if __name__ == '__main__':
    sys.exit(run_tool(main, 'benchmark'))

"""Time a part of a model on video frames, dense and skipping."""

import copy
import itertools
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter, process_time
from typing import NamedTuple

import cv2
import torch
from mmengine.registry import MODELS, init_default_scope
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from mmskip.apis import UserError, import_host, load_config, open_reader
from mmskip.core import convert, count_macs, revert
from mmskip.native import library as native
from mmskip.plan import fold
from mmskip.skip_conv import (
    InputNormGate,
    SkipConversion,
    SkipConvMixin,
    stream,
)
from mmskip.visualization import new_figure, save_figure

from .plan import write_csv, write_json

#: Spatial size of the output of each layer.
Sizes = dict[SkipConvMixin, torch.Size]
PATTERNS = ('blob', 'blocks', 'pixels')
#: The gate of a model that has none, see configs/_base_/conversions.
GATE = dict(type='OutputNormGate', order=2, relative=True)
#: Frames that are not timed: the reference frame is the first of them.
WARM_UP = 3
#: MAC reduction and speed-up on HRNet-w32, Skip-Conv (CVPR 2021), Table 2.
PAPER = ((2.51, 1.48), (4.33, 1.91), (7.92, 4.09))


def converted(model: nn.Module) -> list[SkipConvMixin]:
    """List the Skip-Convolutions of a model."""
    return [m for m in model.modules() if isinstance(m, SkipConvMixin)]


def output_sizes(model: nn.Module, image: Tensor) -> Sizes:
    """Return the spatial size of each Skip-Convolution's output."""
    sizes = {}

    def note(layer: SkipConvMixin, _: tuple, output: Tensor) -> None:
        sizes[layer] = output.shape[2:]

    handles = [m.register_forward_hook(note) for m in converted(model)]
    model(image)
    for handle in handles:
        handle.remove()
    return sizes


def region(pattern: str, share: float, size: torch.Size) -> Tensor:
    """Return a map (1, 1, H, W) of which a share is True."""
    height, width = size
    if pattern == 'blob':
        h, w = (round(s * share**0.5) for s in (height, width))
        mask = torch.zeros(1, 1, height, width, dtype=torch.bool)
        top, left = (height - h) // 2, (width - w) // 2
        mask[:, :, top : top + h, left : left + w] = True
        return mask
    side = 8 if pattern == 'blocks' else 1
    rows, columns = -(-height // side), -(-width // side)
    order = torch.randperm(rows * columns)
    mask = (order < round(share * rows * columns)).view(1, 1, rows, columns)
    mask = mask.repeat_interleave(side, -2).repeat_interleave(side, -1)
    return mask[..., :height, :width].contiguous()


def force(sizes: Sizes, pattern: str, share: float) -> None:
    """Make a share of every layer fire; 0 means: where something changes.

    Raises:
        UserError: The C++ library is missing, without which masks cannot be
            forced.
    """
    if native.MISSING:
        raise UserError(f'masks cannot be forced: {native.MISSING}')
    for layer, size in sizes.items():
        mask = region(pattern, share, size)[0, 0]
        layer.gate.threshold = -1.0 if mask.any() else 0.0
        layer.force_mask(mask if mask.any() else None)


def forced_frames(
    image: Tensor, pattern: str, share: float, number: int
) -> list[Tensor]:
    """Return an image, and frames with a share of their pixels new.

    Args:
        image: (1, 3, H, W).
        pattern: How the new pixels lie, see :data:`PATTERNS`.
        share: How many there are, from 0 to 1.
        number: Number of frames, the first one included.
    """
    place = region(pattern, share, image.shape[2:])
    return [image] + [
        torch.where(place, torch.randn_like(image), image)
        for _ in range(number - 1)
    ]


def video_frames(
    path: str, size: tuple[int, int], preprocessor: nn.Module, number: int
) -> list[Tensor]:
    """Return the first frames of a video, as a model sees them.

    Args:
        path: A video file, or a folder of images.
        size: (W, H) to resize to.
        preprocessor: The model's data preprocessor.
        number: Number of frames.

    Raises:
        UserError: The video has fewer frames.
    """
    frames = []
    with open_reader(path) as reader:
        for frame in itertools.islice(reader, number):
            image = cv2.resize(frame.image, size)
            data = dict(
                inputs=[torch.from_numpy(image).permute(2, 0, 1)],
                data_samples=[],  # some go through them
            )
            inputs = preprocessor(data, False)['inputs']
            # A recogniser's has one dimension more.
            inputs = inputs.reshape(1, *inputs.shape[-3:])
            frames.append(inputs.contiguous(memory_format=torch.channels_last))
    if len(frames) < number:
        raise UserError(
            f'--video {path}: expected at least {number} frames, got '
            f'{len(frames)}; take a longer video or fewer --frames'
        )
    return frames


class Pair(NamedTuple):
    """Two models that are compared.

    Attributes:
        name: ``eager`` or ``compiled``.
        dense: The part as it is.
        skip: The same with Skip-Convolutions.
        sizes: What its layers compute in a frame, if its gates are forced.
    """

    name: str
    dense: nn.Module
    skip: nn.Module
    sizes: Sizes


def build_pair(
    config: str,
    options: dict | None,
    part: str,
    threshold: float | None,
    image: Tensor,
) -> tuple[Pair, nn.Module]:
    """Build the eager pair, with batch norms folded and channels last.

    Args:
        config: Path of a config.
        options: Changes to it.
        part: Name of the part of the model that is timed.
        threshold: Threshold, if the config converts no layer. None asks
            for gates that can be forced.
        image: An input (1, 3, H, W).

    Returns:
        The pair and the model's data preprocessor.

    Raises:
        UserError: The model has no such part.
    """
    cfg = load_config(config, options)
    init_default_scope(import_host(cfg))
    model = MODELS.build(cfg.model)
    # Some backbones return nothing from eval().
    model.eval()
    try:
        skip = model.get_submodule(part)
    except AttributeError as error:
        raise UserError(f'--part {part}: {error}') from None
    dense = copy.deepcopy(skip)
    if converted(skip):
        revert(dense)
    if threshold is None or not converted(skip):
        skip = copy.deepcopy(dense)
        gate = dict(GATE, threshold=threshold or 0.0)
        convert(
            skip,
            SkipConversion(gate, memory='accumulated', roi_heads=True),
        )
    if threshold is None:
        for layer in converted(skip):
            layer.gate, layer.memory = InputNormGate(0.0), 'previous'
    for module in (dense, skip):
        fold(module)
        module.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        sizes = output_sizes(skip, image)
    return Pair('eager', dense, skip, sizes), model.data_preprocessor


def compile_pair(pair: Pair, image: Tensor) -> Pair:
    """Pair the dense model under ``torch.compile`` with the same skipping.

    Its first frames take minutes.

    Args:
        pair: The eager ones.
        image: An input (1, 3, H, W).
    """
    dense, skip = copy.deepcopy(pair.dense), copy.deepcopy(pair.skip)
    with torch.inference_mode():
        sizes = output_sizes(skip, image)
    dense.compile()
    return Pair('compiled', dense, skip, sizes)


def measure(
    pairs: Sequence[Pair],
    frames: Sequence[Tensor],
    pattern: str,
    share: float | None,
    counted: int,
) -> list[dict]:
    """Time all models of all pairs on the same frames, in turns.

    Args:
        pairs: Pairs of models; their gates are forced already, or real ones.
        frames: Inputs (1, 3, H, W); the first :data:`WARM_UP` are not timed.
        pattern: Name of the row.
        share: Share of outputs that are forced to fire; None takes that of the
            MACs that are executed.
        counted: Frames after the first one whose MACs are counted.
    """
    times, sizes = defaultdict(list), {}
    reduction = _mac_reduction(pairs[0].skip, frames[: counted + 1])
    with ExitStack() as stack:
        states = {p.name: stack.enter_context(stream(p.skip)) for p in pairs}
        for frame in frames:
            for name, *models in (pair[:3] for pair in pairs):
                for kind, model in zip(('dense', 'skip'), models, strict=True):
                    start = perf_counter(), process_time()
                    model(frame)
                    times[name, kind].append(perf_counter() - start[0])
                    times[name, kind, 'cpu'].append(process_time() - start[1])
        sizes = {name: state.nbytes for name, state in states.items()}
    ms = {k: 1e3 * statistics.median(v[WARM_UP:]) for k, v in times.items()}
    if share is None:
        share = 1 / reduction if reduction else 0.0
    return [
        _row(pattern, share, reduction, pair.name, ms, sizes) for pair in pairs
    ]


def best_of_pairs(rows: Sequence[dict]) -> list[dict]:
    """Compare the best skip with the best dense, for each input."""
    best = []
    for (pattern, share), group in itertools.groupby(
        rows, key=lambda row: (row['pattern'], row['active'])
    ):
        alike = list(group)
        dense = min(row['dense_ms'] for row in alike)
        skip = min(row['skip_ms'] for row in alike)
        best.append(
            dict(
                pattern=pattern,
                active=share,
                mac_reduction=alike[0]['mac_reduction'],
                speed_up=dense / skip,
                dense_ms=dense,
                skip_ms=skip,
            )
        )
    return best


def break_even(
    rows: Sequence[dict], pattern: str, pair: str = 'eager'
) -> float | None:
    """Find the share of active outputs at which both take as long.

    By linear interpolation; None if skipping wins, or loses, everywhere.
    """
    mine = [r for r in rows if (r['pattern'], r['pair']) == (pattern, pair)]
    for low, high in itertools.pairwise(mine):
        a, b = low['share_of_dense'] - 1, high['share_of_dense'] - 1
        if a < 0 <= b:
            width = high['active'] - low['active']
            return low['active'] - a / (b - a) * width
    return None


def time_layers(
    model: nn.Module, frames: Sequence[Tensor]
) -> dict[str, float]:
    """Time the layers of a skip frame, in ms; the rest is ''.

    Args:
        model: Converted, not compiled.
        frames: The first :data:`WARM_UP` are not timed.
    """
    times: dict[str, float] = defaultdict(float)
    started = {}
    names = {m: n for n, m in model.named_modules()}

    def begin(layer: nn.Module, _: tuple) -> None:
        started[layer] = perf_counter()

    def end(layer: nn.Module, *_: object) -> None:
        times[names[layer]] += perf_counter() - started[layer]

    with stream(model) as state, ExitStack() as stack:
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


def show(result: dict, num_layers: int) -> None:
    """Print the rows, the break-even points and the slowest layers."""
    console = Console()
    # A table that goes to a file is not cut to 80 columns.
    console.width = max(console.width, 120)
    title = '{config}, {threads} threads, {backend}'.format(**result)
    console.print(_table(title, result['rows']))
    for row in result['best']:
        console.print(
            'best skip against best dense, {pattern} '
            '{active:.1%}: {speed_up:.2f}x'.format(**row)
        )
    for name, share in result['break_even'].items():
        text = 'none' if share is None else f'{share:.0%} active'
        console.print(f'break-even, {name}: {text}')
    layers = sorted(
        result['skip_frame_ms_by_layer'].items(), key=lambda pair: -pair[1]
    )
    for name, ms in layers[:num_layers]:
        console.print(f'{ms:8.3f} ms  {name or "all that is no convolution"}')


def write(result: dict, folder: Path) -> None:
    """Write CSV, JSON and the plot."""
    write_json(folder / 'benchmark.json', result)
    write_csv(folder / 'benchmark.csv', result['rows'])
    figure, axes = new_figure()
    kinds = {(r['pair'], r['pattern']): None for r in result['rows']}
    for kind in kinds:
        points = [
            (r['mac_reduction'], r['speed_up'])
            for r in result['rows']
            if (r['pair'], r['pattern']) == kind and r['mac_reduction']
        ]
        if points:
            xs, ys = zip(*points, strict=True)
            axes.plot(xs, ys, marker='o', label=', '.join(kind))
    axes.plot(*zip(*PAPER, strict=True), 'kx', label="the paper's, Table 2")
    limits = (1, max(axes.get_xlim()[1], axes.get_ylim()[1]))
    axes.plot(limits, limits, color='0.7', linestyle='--')
    axes.set(xlabel='times fewer MACs', ylabel='speed-up')
    axes.legend()
    save_figure(figure, folder / 'benchmark.png')


def _row(
    pattern: str,
    share: float,
    reduction: float | None,
    name: str,
    ms: dict[tuple, float],
    sizes: dict[str, int],
) -> dict:
    speed_up = ms[name, 'dense'] / ms[name, 'skip']
    return dict(
        pair=name,
        pattern=pattern,
        active=share,
        mac_reduction=reduction,
        speed_up=speed_up,
        efficiency=speed_up / reduction if reduction else None,
        dense_ms=ms[name, 'dense'],
        skip_ms=ms[name, 'skip'],
        share_of_dense=1 / speed_up,
        dense_cpu_ms=ms[name, 'dense', 'cpu'],
        skip_cpu_ms=ms[name, 'skip', 'cpu'],
        cpu_speed_up=ms[name, 'dense', 'cpu'] / ms[name, 'skip', 'cpu'],
        state_bytes=sizes[name],
    )


def _mac_reduction(skip: nn.Module, frames: Sequence[Tensor]) -> float | None:
    """Return the MAC reduction on later frames; None without any MACs."""
    with stream(skip):
        skip(frames[0])
        with count_macs(skip) as macs:
            for frame in frames[1:]:
                skip(frame)
    count = macs.total()
    return count.dense / count.executed if count.executed else None


def _table(title: str, rows: list[dict]) -> Table:
    columns: dict[str, Callable[[dict], str]] = {
        'pair': lambda r: r['pair'],
        'pattern': lambda r: r['pattern'],
        'active': lambda r: f'{r["active"]:.1%}',
        'macs': lambda r: _number(r['mac_reduction'], 'x'),
        'speed-up': lambda r: _number(r['speed_up'], 'x'),
        'efficiency': lambda r: _number(r['efficiency']),
        'dense ms': lambda r: _number(r['dense_ms']),
        'skip ms': lambda r: _number(r['skip_ms']),
        'CPU time': lambda r: _number(r['cpu_speed_up'], 'x'),
        'share': lambda r: f'{r["share_of_dense"]:.1%}',
        'MiB/stream': lambda r: f'{r["state_bytes"] / 2**20:.1f}',
    }
    table = Table(title=title)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(cell(row) for cell in columns.values()))
    return table


def _number(value: float | None, unit: str = '') -> str:
    """Return a number as people read it."""
    return '-' if value is None else f'{value:.2f}{unit}'

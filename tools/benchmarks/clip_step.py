"""Time and memory of a training step on clips, against the dense model.

Both models are built from one detector's config, start from the same weights
and see the same random images and boxes: B clips of T frames for the
converted model, the same B*T images for the dense one. Their steps (losses,
gradients, update) take turns in one process; medians are compared, of the
wall clock and, for machines that are busy with other work, of the time that
the CPUs spent on this process.

Memory is the peak of what a step holds above what was allocated before it
(weights, gradients and optimizer state stay outside). On a GPU torch's
allocator tells it. On a CPU the profiler's record of every tensor that is
made and freed is added up: unlike the memory of the process it holds neither
the libraries nor what malloc keeps, so it is the same in every run. Buffers
inside oneDNN's kernels are not in it.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, init_default_scope
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.profiler import ProfilerActivity, profile

from mmskip.apis import UserError, import_host, is_converted, load_config
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.apis.launch import add_config_options
from mmskip.experiments import write_json
from mmskip.skip_conv import clip

MIB = 2**20


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config of a converted detector')
    parser.add_argument('--clips', type=int, default=2, help='B')
    parser.add_argument('--frames', type=int, default=4, help='T')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=(320, 192),
        metavar=('W', 'H'),
        help='size of the images, before the padding of the config',
    )
    parser.add_argument(
        '--repeats', type=int, default=5, help='steps of each model'
    )
    parser.add_argument('--device', default='cpu')
    parser.add_argument(
        '--json', type=Path, help='the numbers go to this file'
    )
    add_config_options(parser)
    args = parser.parse_args(argv)
    for name in ('clips', 'repeats'):
        if getattr(args, name) < 1:
            parser.error(f'--{name}: expected at least 1')
    if args.frames < 2:
        parser.error('--frames: expected at least 2')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    cfg = load_config(args.config, args.cfg_options)
    if import_host(cfg) != 'mmdet':
        raise UserError(f'{args.config}: expected the config of a detector')
    init_default_scope('mmdet')
    torch.manual_seed(0)
    steps = make_steps(cfg, args)
    for step in steps.values():
        step()
    times = time_steps(steps, args.repeats, args.device)
    rows = {}
    for name, step in steps.items():
        seconds, cpu_seconds = zip(*times[name], strict=True)
        rows[name] = dict(
            seconds=statistics.median(seconds),
            cpu_seconds=statistics.median(cpu_seconds),
            peak_bytes=peak_memory(step, args.device),
            all_seconds=seconds,
            all_cpu_seconds=cpu_seconds,
        )
    result = summarise(rows, args)
    print_result(result)
    if args.json is not None:
        write_json(args.json, result)
    return EXIT_OK


def make_steps(
    cfg: Config, args: argparse.Namespace
) -> dict[str, Callable[[], None]]:
    """A training step of the dense and of the converted model.

    Raises:
        UserError: The config's model is not converted.
    """
    if cfg.model.get('type') != 'mmskip.ConvertedModel':
        raise UserError(
            f'{args.config}: expected model.type mmskip.ConvertedModel, got '
            f'{cfg.model.get("type")!r}'
        )
    plain = cfg.model.copy()
    plain.type = plain.pop('arch')
    for key in ('conversions', 'efficiency_loss'):
        plain.pop(key, None)
    clips, dense = MODELS.build(cfg.model), MODELS.build(plain)
    dense.load_state_dict(clips.state_dict(), strict=False)
    batch = random_batch(cfg, args)
    return dict(
        dense=training_step(dense, batch, 1, args.device),
        clips=training_step(clips, batch, args.frames, args.device),
    )


def random_batch(cfg: Config, args: argparse.Namespace) -> dict:
    """Images of noise with random boxes, as a loader collates them."""
    return import_module('mmdet.testing').demo_mm_inputs(
        args.clips * args.frames,
        (3, args.size[1], args.size[0]),
        num_classes=cfg.model.bbox_head.num_classes,
    )


def training_step(
    model: nn.Module, batch: dict, num_frames: int, device: str
) -> Callable[[], None]:
    """What a loop does with a batch, in clips if the model is converted."""
    model.to(device).train()
    # A step that changes nothing: all repeats do the same work.
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0))

    def step() -> None:
        if is_converted(model):
            with clip(model, num_frames):
                model.train_step(batch, wrapper)
        else:
            model.train_step(batch, wrapper)

    return step


def time_steps(
    steps: dict[str, Callable[[], None]], repeats: int, device: str
) -> dict[str, list[tuple[float, float]]]:
    """Time the steps; they take turns, so that drift hits all alike.

    Returns:
        Seconds of the wall clock and of the CPUs, of each repeat.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            synchronise(device)
            start, cpu_start = time.perf_counter(), time.process_time()
            step()
            synchronise(device)
            times[name].append(
                (
                    time.perf_counter() - start,
                    time.process_time() - cpu_start,
                )
            )
    return times


def synchronise(device: str) -> None:
    """Wait for the GPU."""
    if torch.device(device).type == 'cuda':
        torch.cuda.synchronize(device)


def peak_memory(step: Callable[[], None], device: str) -> int:
    """Bytes that a step holds at its peak, above what was there before."""
    if torch.device(device).type == 'cuda':
        synchronise(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(
        activities=[ProfilerActivity.CPU], profile_memory=True
    ) as record:
        step()
    events = [
        event
        for event in record.profiler.kineto_results.events()
        if event.name() == '[memory]'
    ]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def summarise(rows: dict[str, dict], args: argparse.Namespace) -> dict:
    """All numbers, and what they were measured on."""
    dense, clips = rows['dense'], rows['clips']

    def ratio(key: str) -> float:
        return clips[key] / dense[key]

    return dict(
        config=args.config,
        clips=args.clips,
        frames=args.frames,
        size=list(args.size),
        device=args.device,
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        variants=rows,
        time_ratio=ratio('seconds'),
        cpu_time_ratio=ratio('cpu_seconds'),
        memory_ratio=ratio('peak_bytes'),
    )


def print_result(result: dict) -> None:
    """The medians and their ratios as a table."""
    images = result['clips'] * result['frames']
    table = Table(title=f'training step on {images} images')
    table.add_column('variant')
    for name in ('s/step', 'CPU s/step', 'peak MiB'):
        table.add_column(name, justify='right')
    for name, row in result['variants'].items():
        table.add_row(
            name,
            f'{row["seconds"]:.3f}',
            f'{row["cpu_seconds"]:.3f}',
            f'{row["peak_bytes"] / MIB:.0f}',
        )
    table.add_row(
        'clips / dense',
        f'{result["time_ratio"]:.2f}x',
        f'{result["cpu_time_ratio"]:.2f}x',
        f'{result["memory_ratio"]:.2f}x',
    )
    Console().print(table)


if __name__ == '__main__':
    sys.exit(run_tool(main, 'clip_step'))

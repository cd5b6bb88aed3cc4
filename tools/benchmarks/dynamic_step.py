"""Time of dynamic convolutions against the plain model (VA-RED^2).

Training: one step of the plain model and of the same model converted with
the search spaces 2 and 3. Inference: the plain model and the converted one
at forced options, with the gates running, at batches of 1 and 8, both after
``mmskip.accelerate``. Everything starts from the same weights and takes turns
in one process; medians are compared, of the time that the CPUs spent on this
process, so other work disturbs little.

``share`` is the part that came true of what the MACs predict:
(speed-up - 1) / (MAC ratio - 1).
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import BaseDataElement
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import mmskip
from mmskip.apis import UserError, import_host, load_config
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.apis.launch import add_config_options
from mmskip.experiments import write_json

OPTIONS = ((0, 0), (0, 1), (1, 0), (1, 1))
BATCHES = (1, 8)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config of a converted recognizer')
    parser.add_argument('--clips', type=int, default=4, help='of a step')
    parser.add_argument('--frames', type=int, default=8, help='T')
    parser.add_argument('--size', type=int, default=64, help='H and W')
    parser.add_argument('--repeats', type=int, default=7)
    parser.add_argument(
        '--json', type=Path, help='the numbers go to this file'
    )
    add_config_options(parser)
    args = parser.parse_args(argv)
    for name in ('clips', 'frames', 'size', 'repeats'):
        if getattr(args, name) < 1:
            parser.error(f'--{name}: expected at least 1')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    cfg = load_config(args.config, args.cfg_options)
    if import_host(cfg) != 'mmaction':
        raise UserError(f'{args.config}: expected the config of a recognizer')
    init_default_scope('mmaction')
    torch.manual_seed(0)
    result = dict(
        config=args.config,
        clips=args.clips,
        frames=args.frames,
        size=args.size,
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        training=measure_training(cfg, args),
        inference=measure_inference(cfg, args),
    )
    print_result(result)
    if args.json is not None:
        write_json(args.json, result)
    return EXIT_OK


def build(cfg: Config, search_space: int | None) -> nn.Module:
    """The config's model, plain (None) or with another search space.

    Raises:
        UserError: The config's model is not one of dynamic convolutions.
    """
    model = cfg.model.copy()
    conversions = model.pop('conversions', None)
    kind = 'DynamicConversion'
    if not conversions or not conversions[0]['type'].endswith(kind):
        raise UserError(
            f'expected a model converted by mmskip.{kind}, got conversions '
            f'{conversions!r}'
        )
    if search_space is None:
        model.pop('efficiency_loss', None)
        model.type = model.pop('arch')
    else:
        model.conversions = [dict(conversions[0], search_space=search_space)]
    return MODELS.build(model)


def measure_training(cfg: Config, args: argparse.Namespace) -> dict:
    """Seconds of a step, and their ratio to the plain model's."""
    x = clips_of_noise(args.clips, args)
    labels = [
        BaseDataElement(gt_label=torch.tensor([0])) for _ in range(args.clips)
    ]
    models = dict(plain=build(cfg, None), space_2=build(cfg, 2))
    models['space_3'] = build(cfg, 3)

    def step(model: nn.Module) -> None:
        model.zero_grad()
        losses = model(x, labels, mode='loss')
        sum(v for k, v in losses.items() if 'loss' in k).backward()

    for model in models.values():
        model.train()
    seconds = time_turns(models, step, args.repeats)
    return {
        name: dict(seconds=value, ratio=value / seconds['plain'])
        for name, value in seconds.items()
    }


def measure_inference(cfg: Config, args: argparse.Namespace) -> list[dict]:
    """Clips per second and GMAC of each pair of options and batch."""
    plain, dynamic = build(cfg, None).eval(), build(cfg, 2).eval()
    dynamic.load_state_dict(plain.state_dict(), strict=False)
    for model in (plain, dynamic):
        mmskip.accelerate(model)
    runs = dict(plain=None, **{str(pair): pair for pair in OPTIONS})
    rows = []
    for batch in BATCHES:
        x = clips_of_noise(batch, args)

        def run(pair: tuple | None, x: Tensor = x) -> int:
            model = plain if pair is None else dynamic
            forced = mmskip.force_routing(dynamic, *pair or (0, 0))
            with forced if pair else nullcontext(), torch.inference_mode():
                model(x, None, mode='tensor', stage='head')

        macs = {}
        for name, pair in runs.items():
            model = plain if pair is None else dynamic
            with mmskip.count_macs(model) as ledger:
                run(pair)
            macs[name] = ledger.total().spent / batch
        seconds = time_turns(runs, run, args.repeats)
        for name in runs:
            predicted = macs['plain'] / macs[name]
            measured = seconds['plain'] / seconds[name]
            saves = predicted > 1.01
            rows.append(
                dict(
                    batch=batch,
                    options=name,
                    gmac=macs[name] / 1e9,
                    clips_per_second=batch / seconds[name],
                    mac_ratio=predicted,
                    speed_up=measured,
                    share=(measured - 1) / (predicted - 1) if saves else None,
                )
            )
    return rows


def clips_of_noise(number: int, args: argparse.Namespace) -> Tensor:
    """Clips (N, 1, 3, T, H, W)."""
    return torch.randn(number, 1, 3, args.frames, args.size, args.size)


def time_turns(
    variants: dict, run: Callable[..., None], repeats: int
) -> dict[str, float]:
    """Median CPU seconds of each variant; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for variant in variants.values():
        run(variant)
    for _ in range(repeats):
        for name, variant in variants.items():
            start = time.process_time()
            run(variant)
            times[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def print_result(result: dict) -> None:
    """Two tables."""
    console = Console()
    table = Table(title=f'training step on {result["clips"]} clips')
    for name in ('variant', 'CPU s/step', 'ratio'):
        table.add_column(name)
    for name, row in result['training'].items():
        table.add_row(name, f'{row["seconds"]:.3f}', f'{row["ratio"]:.2f}x')
    console.print(table)
    table = Table(title='inference, (time, channels) forced')
    for name in ('batch', 'options', 'GMAC', 'clips/s', 'MACs', 'speed', 'of'):
        table.add_column(name)
    for row in result['inference']:
        share = '' if row['share'] is None else f'{row["share"]:.0%}'
        table.add_row(
            str(row['batch']),
            row['options'],
            f'{row["gmac"]:.3f}',
            f'{row["clips_per_second"]:.2f}',
            f'{row["mac_ratio"]:.2f}x',
            f'{row["speed_up"]:.2f}x',
            share,
        )
    console.print(table)


if __name__ == '__main__':
    sys.exit(run_tool(main, 'dynamic_step'))

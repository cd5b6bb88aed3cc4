"""What motion compensation saves where the camera pans.

A synthetic camera pans over a textured picture, by each of --steps pixels per
frame, while an object crosses the view. A model with norm gates sees it
without compensation, with it (whole steps) and with interpolation, at several
multiples of its thresholds. Writes motion.csv (error of the outputs and MACs),
motion.json and motion.png (MACs at equal error) to --out. Without a
checkpoint the weights are random. Example::

    python tools/analysis/motion.py CONFIG CHECKPOINT --out work_dirs/motion

Choose a --size that the config's test pipeline leaves alone: resized frames
move by fractions of a pixel.
"""

import argparse
import sys
from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from rich.console import Console
from rich.table import Table
from torch import nn

import mmskip  # noqa: F401  (registers its modules)
from mmskip.apis import FramePipeline, UserError, init_model, load_config
from mmskip.apis.calibration import is_norm_gated, run_tensors, to_device
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.evaluation import Cost, OutputError, norm_gates, share_at
from mmskip.experiments import positive, write_csv, write_json
from mmskip.toy import pan_video
from mmskip.visualization import plot_bars

MOTION = dict(type='mmskip.HomographyMotion')
METHODS = {
    'plain residual': None,
    'whole steps': MOTION,
    'interpolated': dict(MOTION, interpolate=True),
}
FACTORS = tuple(2.0**power for power in range(-5, 6))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='of a model with norm gates')
    parser.add_argument(
        'checkpoint', nargs='?', help='default: random weights'
    )
    parser.add_argument('--out', type=Path, required=True, help='folder')
    parser.add_argument(
        '--steps',
        nargs='+',
        type=step,
        default=[step(s) for s in ('0', '2', '4', '8', '16', '32', '4.5,0.3')],
        metavar='X[,Y]',
        help='pixels per frame (default: 0 2 4 8 16 32 4.5,0.3)',
    )
    parser.add_argument(
        '--size',
        nargs=2,
        type=positive,
        default=(320, 192),
        metavar=('WIDTH', 'HEIGHT'),
        help='of the frames (default: 320 192)',
    )
    parser.add_argument('--frames', type=positive, default=12)
    parser.add_argument(
        '--noise', type=float, default=0.0, help='in grey levels (default: 0)'
    )
    parser.add_argument(
        '--at',
        type=float,
        default=0.1,
        metavar='ERROR',
        help='compare MACs at this relative error (default: 0.1)',
    )
    parser.add_argument('--device', default='cpu', help="e.g. 'cuda:0'")
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        help='override settings of the config, xxx=yyy',
    )
    return parser.parse_args(argv)


def step(text: str) -> tuple[float, float]:
    """A step of the camera, for argparse."""
    x, _, y = text.partition(',')
    return float(x), float(y or 0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    if args.frames < 2:
        raise UserError(f'expected 2 --frames or more, got {args.frames}')
    cfg = load_config(args.config, args.cfg_options)
    conversions = cfg.get('model', {}).get('conversions') or ()
    gated = [c for c in conversions if is_norm_gated(c)]
    if not gated:
        raise UserError(
            f'{args.config}: expected model.conversions with a norm gate, '
            'got none; see configs/_base_/conversions/output_norm.py'
        )
    models = {}
    for method, motion in METHODS.items():
        drifts = any(c.get('memory') != 'accumulated' for c in gated)
        if not (drifts and motion and motion.get('interpolate')):
            models[method] = build(cfg, args, motion)
    cases = [(s, m) for s in args.steps for m in models]
    console = Console()
    rows = []
    for number, (pan, method) in enumerate(cases, 1):
        found = run(models[method], method, pan, args)
        rows += found
        (own,) = (row for row in found if row['factor'] == 1)
        console.print(
            f'{number}/{len(cases)} {label(pan)} pixels per frame, {method}: '
            f'error {own["error"]:.3g} at {own["share"]:.1%} of the MACs',
            highlight=False,
        )
    report(rows, list(models), args, console)
    return EXIT_OK


def build(
    cfg: Config, args: argparse.Namespace, motion: dict | None
) -> nn.Module:
    """The config's model, with or without motion compensation."""
    cfg = deepcopy(cfg)
    for conversion in cfg.model.conversions:
        if is_norm_gated(conversion):
            conversion.motion = motion
    torch.manual_seed(0)
    return init_model(cfg, args.checkpoint, args.device)


def run(
    model: nn.Module,
    method: str,
    pan: tuple[float, float],
    args: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Error and MACs of a pan at multiples of the model's thresholds."""
    video = pan_video(args.frames, pan, tuple(args.size), args.noise)
    prepare = FramePipeline(model)
    clips = [[prepare(image, index) for index, image in enumerate(video)]]
    to_device(clips, next(model.parameters()).device)
    measure = OutputError(model, clips, partial(run_tensors, model))
    gates = norm_gates(model)
    own = {name: gate.threshold for name, gate in gates.items()}
    rows = []
    for factor in FACTORS:
        cost = measure({name: t * factor for name, t in own.items()})
        rows.append(
            dict(
                step_x=pan[0],
                step_y=pan[1],
                method=method,
                factor=factor,
                **cost._asdict(),
            )
        )
    for name, gate in gates.items():
        gate.threshold = own[name]
    return rows


def report(
    rows: list[dict[str, Any]],
    methods: Sequence[str],
    args: argparse.Namespace,
    console: Console,
) -> None:
    """Write the measurements, compare them at one error, print that."""
    title = f'share of the dense MACs at a relative error of {args.at:g}'
    table = Table('pixels per frame', *methods, 'to plain', title=title)
    compared = []
    for pan in dict.fromkeys((row['step_x'], row['step_y']) for row in rows):
        shares = {}
        for method in methods:
            curve = [
                Cost(row['error'], row['share'])
                for row in rows
                if (row['step_x'], row['step_y'], row['method'])
                == (*pan, method)
            ]
            shares[method] = share_at(curve, args.at)
        plain, own = shares['plain residual'], shares['whole steps']
        ratio = None if None in (plain, own) else own / plain
        compared.append(dict(step=pan, **shares, ratio=ratio))
        cells = [percent(share) for share in (*shares.values(), ratio)]
        table.add_row(label(pan), *cells)
    write_csv(args.out / 'motion.csv', rows)
    write_json(
        args.out / 'motion.json',
        dict(
            config=args.config,
            checkpoint=args.checkpoint,
            size=list(args.size),
            frames=args.frames,
            noise=args.noise,
            error=args.at,
            compared=compared,
        ),
    )
    bars = {
        method: {
            label(row['step']): row[method]
            for row in compared
            if row[method] is not None
        }
        for method in methods
    }
    plot_bars(bars, args.out / 'motion.png', title)
    console.print(table)
    console.print(f'Written to {args.out}', markup=False, soft_wrap=True)


def label(pan: tuple[float, float]) -> str:
    """A step as the table and the plot show it."""
    return f'{pan[0]:g}, {pan[1]:g}' if pan[1] else f'{pan[0]:g}'


def percent(share: float | None) -> str:
    """A share for the table."""
    return 'out of range' if share is None else f'{share:.1%}'


if __name__ == '__main__':
    sys.exit(run_tool(main, 'motion'))

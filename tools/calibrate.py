"""Choose a threshold per layer for the norm gates of a converted model.

Takes a few clips without labels, from the config's own data or from videos,
and a budget: an error of the outputs or a reduction of the MACs. Writes to
--out a config that inherits CONFIG and names a threshold for every layer
(NAME_calibrated.py, for tools/test.py and all other tools; give them the same
--cfg-options), calibration.csv and .png (error against MACs, with one
threshold and with one per layer) and calibration.json. Example::

    python tools/calibrate.py CONFIG CHECKPOINT --max-error 0.1 \
        --out work_dirs/calibrated

The algorithm is in mmskip/evaluation/thresholds.py. Clips of --check
play no part in the choice; they show what it is worth.

With --precision int8 it learns the ranges of values that layers read, from
the same clips, and writes int8.json, for ``mmskip stream --precision int8
--calibration``. Thresholds are then chosen in int8, if there is a budget,
too.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import DictAction
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

import mmskip
from mmskip.apis import UserError, init_model, load_config
from mmskip.apis.calibration import (
    Batch,
    calibrated_conversions,
    clips_of_dataset,
    clips_of_video,
    is_norm_gated,
    layer_groups,
    rounded,
    run_tensors,
    to_device,
    write_calibrated,
)
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.evaluation import (
    Budget,
    Choice,
    Cost,
    OutputError,
    norm_gates,
    scaled,
    search_thresholds,
    share_at,
)
from mmskip.experiments import positive, write_csv, write_json
from mmskip.plan import calibration_of, fold, observed_inputs
from mmskip.visualization import plot_error_vs_macs

SINGLE, PER_LAYER = 'one threshold', 'a threshold per layer'
# Factors on the thresholds, for the curves.
FACTORS = tuple(2 ** (power / 2) for power in range(-6, 7))
SECONDS_BETWEEN_LINES = 10.0


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='of a model with norm gates')
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument('--out', type=Path, required=True, help='folder')
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        '--max-error', type=above_zero, help='of the outputs, e.g. 0.1'
    )
    budget.add_argument(
        '--reduction', type=above_zero, help='of the MACs, e.g. 3'
    )
    parser.add_argument(
        '--precision',
        choices=('float32', 'int8'),
        default='float32',
        help='int8 learns the ranges of values, too (default: float32)',
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        '--video', nargs='+', help='files or folders of images to take from'
    )
    source.add_argument(
        '--split',
        choices=('train', 'val', 'test'),
        default='val',
        help="of the config's data, to take from (default: val)",
    )
    parser.add_argument(
        '--check',
        type=int,
        default=2,
        help='clips to check the choice on, if there are (default: 2)',
    )
    for name, default, meaning in (
        ('--clips', 2, 'clips to choose on'),
        ('--frames', 12, 'frames of a clip'),
        ('--groups', 24, 'groups of layers that move together, at most'),
        ('--rounds', 3, 'rounds of exchange'),
    ):
        parser.add_argument(
            name,
            type=positive,
            default=default,
            help=f'{meaning} (default: {default})',
        )
    parser.add_argument('--device', default='cpu', help="e.g. 'cuda:0'")
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        help='override settings of the config, xxx=yyy',
    )
    args = parser.parse_args(argv)
    if not (args.max_error or args.reduction or args.precision == 'int8'):
        parser.error(
            'expected --max-error or --reduction, which thresholds are to '
            'keep to, or --precision int8, got none of them'
        )
    return args


def above_zero(text: str) -> float:
    """A positive number, for argparse."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f'{text} is not positive')
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    console = Console()
    cfg = load_config(args.config, args.cfg_options)
    conversions = cfg.get('model', {}).get('conversions') or ()
    has_budget = bool(args.max_error or args.reduction)
    if has_budget and not any(map(is_norm_gated, conversions)):
        raise UserError(
            f'{args.config}: expected model.conversions with a norm gate, '
            'got none; see configs/_base_/conversions/output_norm.py'
        )
    model = init_model(cfg, args.checkpoint, args.device)
    chosen_on, checked_on = load_clips(model, args)
    if args.precision == 'int8':
        learn_ranges(model, chosen_on, args.out, console)
    if has_budget:
        choose_thresholds(model, conversions, chosen_on, checked_on, args)
    return EXIT_OK


def learn_ranges(
    model: nn.Module,
    clips: list[list[Batch]],
    out: Path,
    console: Console,
) -> None:
    """Write what plans in int8 need to know, and run the model in them."""
    fold(model)
    batches = [batch for clip in clips for batch in clip]
    try:
        with torch.no_grad(), observed_inputs(model) as seen:
            for batch in track(batches, 'Ranges of values', console=console):
                run_tensors(model, batch)
        calibration = calibration_of(seen)
        mmskip.accelerate(model, 'int8', calibration)
    except ValueError as error:
        raise UserError(f'--precision int8: {error}') from error
    out.mkdir(parents=True, exist_ok=True)
    calibration.save(out / 'int8.json')
    console.print(str(calibration), markup=False, highlight=False)
    console.print(
        f'Written: {out / "int8.json"}', markup=False, soft_wrap=True
    )


def choose_thresholds(
    model: nn.Module,
    conversions: Sequence[dict],
    chosen_on: list[list[Batch]],
    checked_on: list[list[Batch]],
    args: argparse.Namespace,
) -> None:
    """Choose a threshold for each layer, and write what came of it."""
    console = Console()
    gates = norm_gates(model)
    thresholds = sorted(gate.threshold for gate in gates.values())
    measure = Watched(open_meter(model, chosen_on), console)
    single, best = search_thresholds(
        measure,
        layer_groups(list(gates), args.groups),
        max(thresholds[len(thresholds) // 2], 1e-3),
        Budget(args.max_error, args.reduction and 1 / args.reduction),
        (4.0, *[2.0] * (args.rounds - 1)),
    )
    written = rounded(best.thresholds)
    rows = draw_curves('chosen', measure, single.thresholds, written)
    if checked_on:
        check = Watched(open_meter(model, checked_on), console)
        rows += draw_curves('check', check, single.thresholds, written)
    entries = calibrated_conversions(model, conversions, written)
    config = args.out / f'{Path(args.config).stem}_calibrated.py'
    write_calibrated(config, args.config, entries)
    report(args, rows, written, single, console)
    console.print(f'Written: {config}', markup=False, soft_wrap=True)


def load_clips(
    model: nn.Module, args: argparse.Namespace
) -> tuple[list[list[Batch]], list[list[Batch]]]:
    """Clips to choose on, and others to check on.

    Raises:
        UserError: There are not enough, or see :mod:`mmskip.apis`.
    """
    count = args.clips + args.check
    if args.video:
        clips = []
        for path in args.video:
            each = -(-count // len(args.video))
            clips += clips_of_video(model, path, each, args.frames)
        source = ', '.join(args.video)
    else:
        clips = clips_of_dataset(model, args.split, count, args.frames)
        source = f'the {args.split} set'
    if len(clips) < args.clips:
        raise UserError(
            f'expected {args.clips} clips of {args.frames} frames in '
            f'{source}, found {len(clips)}; lower --clips or --frames'
        )
    to_device(clips, next(model.parameters()).device)
    return clips[: args.clips], clips[args.clips : count]


def open_meter(model: nn.Module, clips: list[list[Batch]]) -> OutputError:
    """Measure thresholds on clips."""
    return OutputError(model, clips, partial(run_tensors, model))


class Watched:
    """Measures, and says now and then how far it is."""

    def __init__(self, measure: OutputError, console: Console) -> None:
        self._measure = measure
        self._console = console
        self._began = self._told = time.perf_counter()

    def __call__(self, thresholds: Mapping[str, float]) -> Cost:
        cost = self._measure(thresholds)
        now = time.perf_counter()
        if now - self._told > SECONDS_BETWEEN_LINES:
            self._told = now
            self._console.print(
                f'{self._measure.runs} measurements, '
                f'{now - self._began:.0f} s: error {cost.error:.3g} at '
                f'{cost.share:.1%} of the MACs',
                highlight=False,
            )
        return cost


def draw_curves(
    clips: str,
    measure: Callable[[Mapping[str, float]], Cost],
    single: Mapping[str, float],
    per_layer: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Error and MACs of both choices and of multiples of them."""
    return [
        dict(
            clips=clips,
            method=method,
            factor=factor,
            chosen=factor == 1,
            **measure(scaled(thresholds, factor))._asdict(),
        )
        for method, thresholds in ((SINGLE, single), (PER_LAYER, per_layer))
        for factor in FACTORS
    ]


def report(
    args: argparse.Namespace,
    rows: list[dict[str, Any]],
    thresholds: Mapping[str, float],
    single: Choice,
    console: Console,
) -> None:
    """Write and print what was chosen and what it is worth."""
    table = Table('clips', 'error', PER_LAYER, f'{SINGLE}, equal error', '')
    compared = []
    for clips in dict.fromkeys(row['clips'] for row in rows):
        here = [row for row in rows if row['clips'] == clips]
        curve = [
            Cost(row['error'], row['share'])
            for row in here
            if row['method'] == SINGLE
        ]
        (own,) = (r for r in here if r['chosen'] and r['method'] == PER_LAYER)
        other = share_at(curve, own['error'])
        fewer = None if other is None else 1 - own['share'] / other
        compared.append(
            dict(
                clips=clips,
                error=own['error'],
                share=own['share'],
                single_share=other,
                fewer=fewer,
            )
        )
        table.add_row(
            clips,
            f'{own["error"]:.4f}',
            f'{own["share"]:.1%} of dense MACs',
            'out of range' if other is None else f'{other:.1%}',
            '' if fewer is None else f'{fewer:.1%} fewer',
        )
    write_csv(args.out / 'calibration.csv', rows)
    write_json(
        args.out / 'calibration.json',
        dict(
            config=args.config,
            checkpoint=args.checkpoint,
            max_error=args.max_error,
            reduction=args.reduction,
            single_threshold=next(iter(single.thresholds.values())),
            thresholds=dict(thresholds),
            at_equal_error=compared,
            curves=rows,
        ),
    )
    last = [row for row in rows if row['clips'] == rows[-1]['clips']]
    plot_error_vs_macs(last, args.out / 'calibration.png')
    console.print(table)


if __name__ == '__main__':
    sys.exit(run_tool(main, 'calibrate'))

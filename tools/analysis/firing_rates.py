"""How many outputs fire in each stage of a converted model.

The question of Figure 1 of the supplement of Skip-Convolutions (CVPR 2021),
over the test set and outside reference frames. Writes firing_rates.csv, .png
and .json to --out. Example, one group of bars per beta::

    python tools/analysis/firing_rates.py CONFIG \
        'beta 0.1=a.pth' 'beta 1=b.pth' --out work_dirs/firing
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mmskip.apis import UserError
from mmskip.apis.errors import EXIT_INCOMPLETE, EXIT_OK, run_tool
from mmskip.evaluation import STAGES, firing_by_stage
from mmskip.experiments import (
    Checkpoint,
    Done,
    Job,
    Tell,
    ToolRuns,
    add_model_arguments,
    add_run_arguments,
    make_tool_runs,
    read_checkpoints,
    run_jobs,
    slug,
    write_csv,
    write_json,
)
from mmskip.visualization import plot_bars

TOOLS = Path(__file__).resolve().parents[1]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    add_model_arguments(parser)
    add_run_arguments(parser)
    parser.add_argument(
        '--stages',
        nargs='+',
        type=regular_expression,
        default=STAGES,
        metavar='REGEX',
        help='the first that matches the beginning of a layer name gives its '
        'stage, layers that none matches are left out (default: '
        f'{" ".join(STAGES)})',
    )
    return parser.parse_args(argv)


def regular_expression(text: str) -> str:
    """A regular expression, for argparse."""
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f'{text!r}: {error}') from None
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    checkpoints = read_checkpoints(args.checkpoints)
    runs = make_tool_runs(args, TOOLS)
    console = Console()
    jobs = [make_job(checkpoint, runs, args) for checkpoint in checkpoints]
    rates, failed = run_jobs(jobs, args.jobs, console, runs.stop)
    rows = [
        dict(label=label, **stage)
        for label, stages in rates.items()
        for stage in stages
    ]
    if rates and not rows:
        raise UserError(
            f'no converted layer belongs to a stage of {args.stages}: is '
            f'{args.config} of a converted model?'
        )
    if rows:
        report(rows, failed, args)
        console.print(f'Written to {args.out}', markup=False, soft_wrap=True)
    return EXIT_INCOMPLETE if failed else EXIT_OK


def make_job(
    checkpoint: Checkpoint, runs: ToolRuns, args: argparse.Namespace
) -> Job:
    """Test a checkpoint and group its layers."""

    def work(given: Mapping[str, Any], tell: Tell) -> Done:
        result = runs.test(
            args.config,
            checkpoint.path,
            args.cfg_options,
            args.out / slug(checkpoint.label),
            tell,
        )
        stages = firing_by_stage(result.cost['layers'], args.stages)
        text = ', '.join(
            f'{stage["stage"]} {stage["firing_rate"]:.2f}' for stage in stages
        )
        return Done(stages, text, result.reused)

    return Job(checkpoint.label, work)


def report(
    rows: Sequence[Mapping[str, Any]],
    failed: Mapping[str, str],
    args: argparse.Namespace,
) -> None:
    """Write the rates of all checkpoints."""
    write_csv(args.out / 'firing_rates.csv', rows)
    write_json(
        args.out / 'firing_rates.json',
        dict(config=args.config, rows=rows, failed=failed),
    )
    bars: dict[str, dict[str, float]] = {}
    for row in rows:
        bars.setdefault(row['label'], {})[row['stage']] = row['firing_rate']
    plot_bars(
        bars,
        args.out / 'firing_rates.png',
        'share of outputs that fire',
    )


if __name__ == '__main__':
    sys.exit(run_tool(main, 'firing_rates'))

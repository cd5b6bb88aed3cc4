"""Accuracy and MACs by the distance of reference frames.

The question of Table 4 of Skip-Convolutions (CVPR 2021). Tests a converted
model with several values of VideoHook's reset_interval and writes
reset_interval.csv, .png and .json to --out. Example, a line per clip length
of the training::

    python tools/analysis/reset_interval.py CONFIG --task pose \
        'clips of 4=a.pth' 'clips of 8=b.pth' --intervals 4 8 none \
        --out work_dirs/reset
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mmskip.apis import UserError, load_config
from mmskip.apis.errors import EXIT_INCOMPLETE, EXIT_OK, run_tool
from mmskip.evaluation import TASKS, Task
from mmskip.experiments import (
    Checkpoint,
    Done,
    Job,
    Tell,
    ToolRuns,
    add_model_arguments,
    add_run_arguments,
    make_row,
    make_tool_runs,
    positive,
    read_checkpoints,
    run_jobs,
    slug,
    write_csv,
    write_json,
)
from mmskip.visualization import plot_intervals, print_table

TOOLS = Path(__file__).resolve().parents[1]
STREAMED = ('detection', 'pose')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    add_model_arguments(parser)
    add_run_arguments(parser)
    parser.add_argument(
        '--intervals',
        nargs='+',
        type=interval,
        default=[4, 8, 16, None],
        help='frames from one reference frame to the next; none: only at the '
        'beginning of a video (default: 4 8 16 none)',
    )
    parser.add_argument(
        '--task',
        choices=STREAMED,
        default='detection',
        help='what the model is judged by (default: detection)',
    )
    return parser.parse_args(argv)


def interval(text: str) -> int | None:
    """A reset interval, for argparse."""
    return None if text.lower() == 'none' else positive(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    checkpoints = read_checkpoints(args.checkpoints)
    option = reset_option(args)
    task = TASKS[args.task]
    runs = make_tool_runs(args, TOOLS)
    console = Console()
    jobs = [
        make_job(checkpoint, frames, option, runs, args, task)
        for checkpoint in checkpoints
        for frames in dict.fromkeys(args.intervals)
    ]
    values, failed = run_jobs(jobs, args.jobs, console, runs.stop)
    rows = list(values.values())
    if rows:
        write_csv(args.out / 'reset_interval.csv', rows)
        write_json(
            args.out / 'reset_interval.json',
            dict(config=args.config, rows=rows, failed=failed),
        )
        plot_intervals(rows, args.out / 'reset_interval.png', task)
        print_table(rows, console, task=task)
        console.print(f'Written to {args.out}', markup=False, soft_wrap=True)
    return EXIT_INCOMPLETE if failed else EXIT_OK


def reset_option(args: argparse.Namespace) -> str:
    """The option that sets the interval.

    Raises:
        UserError: The config has no ``mmskip.VideoHook``.
    """
    cfg = load_config(args.config, args.cfg_options)
    for index, hook in enumerate(cfg.get('custom_hooks') or ()):
        if hook['type'] == 'mmskip.VideoHook':
            return f'custom_hooks.{index}.reset_interval'
    raise UserError(
        "expected dict(type='mmskip.VideoHook') in custom_hooks of "
        f'{args.config}'
    )


def make_job(
    checkpoint: Checkpoint,
    frames: int | None,
    option: str,
    runs: ToolRuns,
    args: argparse.Namespace,
    task: Task,
) -> Job:
    """Test a checkpoint with an interval."""
    setting = 'whole video' if frames is None else f'every {frames} frames'

    def work(given: Mapping[str, Any], tell: Tell) -> Done:
        result = runs.test(
            args.config,
            checkpoint.path,
            {**args.cfg_options, option: frames},
            args.out / slug(checkpoint.label) / f'interval_{frames}',
            tell,
        )
        row = make_row(
            checkpoint.label,
            setting,
            result.metrics,
            task,
            interval=frames,
        )
        text = (
            f'{task.accuracy} {row[task.accuracy]:.{task.digits}f}, '
            f'{row[task.cost]:.3g} GMAC/{task.unit}'
        )
        return Done(row, text, result.reused)

    return Job(f'{checkpoint.label}, {setting}', work)


if __name__ == '__main__':
    sys.exit(run_tool(main, 'reset_interval'))

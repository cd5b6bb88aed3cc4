"""Every figure of a test, as the mean over the splits of a data set.

Results on sub-JHMDB are the mean of three splits (Table 1 of
Skip-Convolutions, CVPR 2021). Tests a config on each of its splits, trains
it there first if no checkpoints are given, and writes splits.csv and
splits.json to --out. Run again, it goes on with what is missing. Examples::

    python tools/analysis/mean_over_splits.py CONFIG --out work_dirs/dense
    python tools/analysis/mean_over_splits.py CONFIG \
        --checkpoints 'split{split}.pth' --out work_dirs/tested
    python tools/analysis/mean_over_splits.py SKIP_CONFIG \
        --load-from 'work_dirs/dense/split_{split}/epoch_100.pth' \
        --out work_dirs/skip
"""

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mmskip.apis import UserError, load_config
from mmskip.apis.errors import EXIT_INCOMPLETE, EXIT_OK, run_tool
from mmskip.apis.models import check_checkpoint
from mmskip.experiments import (
    Done,
    Job,
    Tell,
    ToolRuns,
    add_run_arguments,
    make_tool_runs,
    positive,
    run_jobs,
    split_options,
    write_csv,
    write_json,
)

TOOLS = Path(__file__).resolve().parents[1]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='config file, of any of the splits')
    add_run_arguments(parser)
    parser.add_argument(
        '--splits',
        type=positive,
        nargs='+',
        default=[1, 2, 3],
        help='default: 1 2 3',
    )
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument(
        '--checkpoints',
        metavar='PATTERN',
        help='weights to test, with {split} in the name; without, the '
        'config is trained on each split',
    )
    weights.add_argument(
        '--load-from',
        metavar='PATTERN',
        help='weights that trainings begin with, with {split} in the name',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='of trainings (default: 0)'
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    cfg = load_config(args.config, args.cfg_options)
    splits = list(dict.fromkeys(args.splits))
    pattern = args.checkpoints or args.load_from
    files = {split: find_weights(pattern, split) for split in splits}
    runs = make_tool_runs(args, TOOLS)
    console = Console()
    jobs = [
        make_job(split, split_options(cfg, split), files[split], runs, args)
        for split in splits
    ]
    values, failed = run_jobs(jobs, args.jobs, console, runs.stop)
    rows = list(values.values())
    if rows:
        report(rows, failed, args, console)
    for name, why in failed.items():
        console.print(f'FAILED {name}: {why}', markup=False, soft_wrap=True)
    return EXIT_INCOMPLETE if failed else EXIT_OK


def find_weights(pattern: str | None, split: int) -> str | None:
    """The file of a split.

    Raises:
        UserError: The pattern names no split, or there is no such file.
    """
    if pattern is None:
        return None
    if '{split}' not in pattern:
        raise UserError(
            f'{pattern}: expected {{split}} in the name; weights that were '
            'trained on the videos of one split are not to be tested on '
            'those of another'
        )
    return check_checkpoint(pattern.replace('{split}', str(split)))


def make_job(
    split: int,
    options: Mapping[str, Any],
    weights: str | None,
    runs: ToolRuns,
    args: argparse.Namespace,
) -> Job:
    """Train on a split if need be, and test on it."""
    options = {**args.cfg_options, **options}
    folder = args.out / f'split_{split}'

    def work(given: Mapping[str, Any], tell: Tell) -> Done:
        checkpoint = weights
        if args.checkpoints is None:
            checkpoint = runs.train(
                args.config,
                weights,
                options,
                args.seed,
                folder,
                lambda eta: tell(f'training, {eta}'),
            )
        result = runs.test(args.config, checkpoint, options, folder, tell)
        row = dict(split=split, **result.metrics)
        text = ', '.join(f'{k} {v:.4g}' for k, v in result.metrics.items())
        return Done(row, text, result.reused)

    return Job(f'split {split}', work)


def report(
    rows: list[dict[str, Any]],
    failed: Mapping[str, str],
    args: argparse.Namespace,
    console: Console,
) -> None:
    """Write and print the rows and their mean."""
    names = [name for name in rows[0] if all(name in row for row in rows[1:])]
    names.remove('split')
    mean = {n: statistics.fmean(row[n] for row in rows) for n in names}
    table = [*rows, dict(split='mean', **mean)]
    chosen = [{k: row[k] for k in ('split', *names)} for row in table]
    write_csv(args.out / 'splits.csv', chosen)
    write_json(
        args.out / 'splits.json',
        dict(config=args.config, rows=rows, mean=mean, failed=failed),
    )
    shown = Table('', *(f'split {row["split"]}' for row in rows), 'mean')
    for name in names:
        shown.add_row(name, *(f'{row[name]:.4g}' for row in chosen))
    console.print(shown)
    console.print(f'Written to {args.out}', markup=False, soft_wrap=True)


if __name__ == '__main__':
    sys.exit(run_tool(main, 'mean_over_splits'))

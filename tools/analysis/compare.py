"""Accuracy against MACs of methods and baselines, as a plan says.

The question of Figures 4, 5 and 7 of Skip-Convolutions (CVPR 2021) and of
Table 4.1 of the thesis on SoF-Net. Tests every row of the plan, compresses
and trains what has to be first, and writes to --out: rows.csv (one row per
seed), summary.csv (mean and standard deviation over the seeds),
{accuracy}_vs_gmac.png and summary.json. Run again, it goes on with what is
missing. Example::

    python tools/analysis/compare.py \
        tools/analysis/comparisons/retinanet_r18-w32_toy-ua-detrac.py \
        --out work_dirs/gates --jobs 2
"""

import argparse
import contextlib
import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from mmskip.apis import UserError
from mmskip.apis.errors import EXIT_INCOMPLETE, EXIT_OK, run_tool
from mmskip.evaluation import Task, compare_at, mean_over_seeds
from mmskip.experiments import (
    Done,
    Job,
    Tell,
    ToolRuns,
    Trial,
    add_run_arguments,
    make_row,
    make_tool_runs,
    read_plan,
    run_jobs,
    write_csv,
    write_json,
)
from mmskip.visualization import (
    plot_accuracy_vs_macs,
    print_comparison,
    print_table,
)

TOOLS = Path(__file__).resolve().parents[1]
DENSE = 'dense'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('plan', help='see mmskip/experiments/plan.py')
    add_run_arguments(parser)
    parser.add_argument(
        '--only',
        nargs='+',
        metavar='METHOD',
        help='compute only these and what they begin with; of the others '
        'what is in --out is shown',
    )
    parser.add_argument(
        '--no-train',
        action='store_true',
        help='test the checkpoints that are in --out, train none',
    )
    parser.add_argument(
        '--at',
        type=float,
        nargs='+',
        default=[2.0, 3.0, 4.0],
        metavar='FACTOR',
        help='compare accuracies at so many times fewer MACs than dense '
        '(default: 2 3 4)',
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    task, trials = read_plan(args.plan)
    trials = [
        replace(trial, options={**trial.options, **args.cfg_options})
        for trial in trials
    ]
    chosen = choose(trials, args.only)
    runs = make_tool_runs(args, TOOLS, may_train=not args.no_train)
    console = Console()
    jobs = [make_job(trial, task, runs, args.out) for trial in chosen]
    values, failed = run_jobs(jobs, args.jobs, console, runs.stop)
    idle = replace(runs, may_train=False, may_test=False)
    recall(trials, task, values, idle, args.out)
    rows = [values[t.name]['row'] for t in trials if t.name in values]
    if rows:
        report(rows, task, failed, args, console)
    for name, why in failed.items():
        console.print(f'FAILED {name}: {why}', markup=False, soft_wrap=True)
    return EXIT_INCOMPLETE if failed else EXIT_OK


def choose(trials: Sequence[Trial], only: list[str] | None) -> list[Trial]:
    """The trials of some methods, and those that they begin with.

    Raises:
        UserError: The plan has no such method.
    """
    methods = list(dict.fromkeys(trial.method for trial in trials))
    for method in only or ():
        if method not in methods:
            close = difflib.get_close_matches(method, methods, 1)
            hint = f'; did you mean {close[0]!r}?' if close else ''
            raise UserError(
                f'--only {method}: the plan has {", ".join(methods)}{hint}'
            )
    wanted = set()
    for trial in reversed(trials):
        if trial.method in (only or methods) or trial.name in wanted:
            wanted |= {trial.name, trial.needs}
    return [trial for trial in trials if trial.name in wanted]


def make_job(trial: Trial, task: Task, runs: ToolRuns, out: Path) -> Job:
    """Compress and train a trial if it has to be, and test it."""

    def work(given: Mapping[str, Any], tell: Tell) -> Done:
        config, options, weights = trial.config, trial.options, trial.weights
        if trial.needs is not None:
            weights = given[trial.needs]['checkpoint']
        folder = trial.folder(out)
        if trial.compress is not None:
            config, weights = runs.compress(
                config, weights, options, trial.compress, folder / 'compressed'
            )
            options = {}  # they are in the config that was written
        if trial.train:
            weights = runs.train(
                config,
                weights,
                options,
                trial.seed,
                folder,
                lambda eta: tell(f'training, {eta}'),
            )
        result = runs.test(config, weights, options, folder, tell)
        row = make_row(
            trial.method, trial.setting, result.metrics, task, seed=trial.seed
        )
        text = (
            f'{task.accuracy} {row[task.accuracy]:.{task.digits}f}, '
            f'{row["reduction"]:.2f}x fewer MACs'
        )
        value = dict(row=row, checkpoint=str(weights))
        return Done(value, text, result.reused)

    return Job(trial.name, work, tuple(filter(None, [trial.needs])))


def recall(
    trials: Sequence[Trial],
    task: Task,
    values: dict[str, Any],
    runs: ToolRuns,
    out: Path,
) -> None:
    """Add what is in the folder of the trials that were not chosen.

    Args:
        trials: All trials of the plan.
        task: That of the plan.
        values: What was computed, by name; changed in place.
        runs: Those that neither train nor test.
        out: The folder.
    """
    for trial in trials:
        known = trial.needs is None or trial.needs in values
        if trial.name not in values and known:
            with contextlib.suppress(UserError):
                job = make_job(trial, task, runs, out)
                values[trial.name] = job.work(values, str).value


def report(
    rows: Sequence[Mapping[str, Any]],
    task: Task,
    failed: Mapping[str, str],
    args: argparse.Namespace,
    console: Console,
) -> None:
    """Write and print the rows, their means and the comparison."""
    means = mean_over_seeds(rows, task)
    dense = max(row[task.dense] for row in rows)
    curves = [row for row in rows if not is_lone_dense(row, means)]
    compared = {
        factor: compare_at(curves, dense / factor, task) for factor in args.at
    }
    write_csv(args.out / 'rows.csv', rows)
    write_csv(args.out / 'summary.csv', means)
    plot = args.out / f'{task.accuracy.lower()}_vs_gmac.png'
    plot_accuracy_vs_macs(means, plot, task=task)
    write_json(
        args.out / 'summary.json',
        dict(
            plan=args.plan,
            rows=rows,
            means=means,
            at_equal_macs=[
                dict(row, reduction=factor)
                for factor, compared_rows in compared.items()
                for row in compared_rows
            ],
            failed=failed,
        ),
    )
    print_table(means, console, task=task)
    for factor, compared_rows in compared.items():
        cost = f'{dense / factor:.3g} GMAC per {task.unit}'
        title = f'{factor:g}x fewer MACs: {cost}'
        print_comparison(compared_rows, console, title, task)
    console.print(f'Written to {args.out}', markup=False, soft_wrap=True)


def is_lone_dense(
    row: Mapping[str, Any], means: Sequence[Mapping[str, Any]]
) -> bool:
    """Whether a row is of the one dense model, which is no curve."""
    points = [mean for mean in means if mean['method'] == DENSE]
    return row['method'] == DENSE and len(points) == 1


if __name__ == '__main__':
    sys.exit(run_tool(main, 'compare'))

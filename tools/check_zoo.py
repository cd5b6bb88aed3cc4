"""Check all models of a host: a stream computes what the dense model does.

Every distinct model among the configs of the installed wheel is built with
random weights and runs on three small frames, as it is and in a stream with
an open gate (``--plan``: with a plan of their steps, too). Raw outputs
and features have to be equal within 1e-4 of the largest value of each
tensor. ``--coverage`` instead converts its linear layers, too, runs it on one
frame and tells which share of the MACs of backbone and neck is converted.
Rows are kept in --out as they come (HOST.jsonl, HOST-coverage.jsonl); a table
of them is HOST.csv, .json and .md. Examples::

    python tools/check_zoo.py mmpose --sample 20
    python tools/check_zoo.py mmdet --plan --jobs 2 --resume
    python tools/check_zoo.py mmaction --coverage --only "swin|vit"
"""

import argparse
import csv
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from rich.console import Console
from rich.progress import track

from mmskip.apis import (
    Limits,
    ZooModel,
    ZooRow,
    check_model,
    config_paths,
    cover_model,
    group_models,
    run_models,
)
from mmskip.apis.errors import EXIT_INCOMPLETE, EXIT_OK, run_tool
from mmskip.apis.zoo import COVERAGE, STATUSES
from mmskip.experiments import positive

HOSTS = ('mmdet', 'mmpose', 'mmaction')
FINE = (
    'equal',
    'undetermined',
    'converted',
    'partly converted',
    'refused',
    'does not run densely',
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('host', choices=HOSTS)
    parser.add_argument(
        '--plan',
        action='store_true',
        help='check them with a plan of their steps, too',
    )
    parser.add_argument(
        '--fast',
        action='store_true',
        help='check them as mmskip.apis.make_fast leaves them, too',
    )
    parser.add_argument(
        '--coverage',
        action='store_true',
        help='tell how much of them is converted, and do nothing else',
    )
    parser.add_argument(
        '--only',
        default='',
        metavar='REGEX',
        help='configs whose path contains this',
    )
    parser.add_argument(
        '--sample', type=positive, help='so many models, drawn at random'
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='of the sample (default: 0)'
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('work_dirs/zoo'),
        help='folder of the tables (default: work_dirs/zoo)',
    )
    parser.add_argument(
        '--resume',
        action='store_true',
        help='keep the rows that are in --out, and check the rest',
    )
    parser.add_argument(
        '--retry',
        action='store_true',
        help='with --resume: check anew what differs or fails',
    )
    parser.add_argument(
        '--jobs',
        type=positive,
        default=1,
        help='models at a time, a core each (default: 1)',
    )
    parser.add_argument(
        '--seconds',
        type=float,
        default=600,
        help='that a model may take (default: 600)',
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    console = Console()
    models = choose_models(args, console)
    modes = ['stream', *['plan'] * args.plan, *['fast'] * args.fast]
    name, check = args.host, check_model
    if args.coverage:
        modes, check = [COVERAGE], cover_model
        name = f'{name}-{COVERAGE}'
    args.out.mkdir(parents=True, exist_ok=True)
    kept = args.out / f'{name}.jsonl'
    if not args.resume:
        kept.unlink(missing_ok=True)
    # Nothing is downloaded.
    os.environ.setdefault('HF_HUB_OFFLINE', '1')
    left = [m for m in models if not is_done(m, modes, kept, args.retry)]
    report = Report(kept, len(models), len(left), console)
    limits = Limits(seconds=args.seconds)
    try:
        run_models(left, modes, report, args.jobs, limits, check)
    finally:
        names = {model.name for model in models}
        rows = [row for row in read_rows(kept) if row.model in names]
        write_tables(args.out, name, rows)
        show_counts(rows, console)
        console.print(f'Written to {args.out}', markup=False, soft_wrap=True)
    fine = all(row.status in FINE for row in rows)
    return EXIT_OK if fine else EXIT_INCOMPLETE


def choose_models(
    args: argparse.Namespace, console: Console
) -> list[ZooModel]:
    """The distinct models, or a sample of them."""
    paths = config_paths(args.host, args.only)
    models = group_models(
        args.host, track(paths, 'Reading configs', console=console)
    )
    console.print(f'{len(models)} distinct models of {len(paths)} configs')
    if args.sample and args.sample < len(models):
        models = random.Random(args.seed).sample(models, args.sample)
    return models


def is_done(
    model: ZooModel, modes: Sequence[str], kept: Path, retry: bool
) -> bool:
    """Whether there are rows of a model in all modes."""
    rows = {r.mode: r for r in read_rows(kept) if r.model == model.name}
    fine = all(row.status in FINE for row in rows.values())
    return rows.keys() >= set(modes) and (fine or not retry)


class Report:
    """Keeps rows as they come, and tells how far it is.

    Args:
        kept: File that rows are appended to.
        total: Number of models.
        left: How many of them are to be checked.
        console: Where progress is shown.
    """

    def __init__(
        self, kept: Path, total: int, left: int, console: Console
    ) -> None:
        self._kept = kept
        self._total = total
        self._left = left
        self._console = console
        self._begin = time.monotonic()
        self._done = 0

    def __call__(self, model: ZooModel, rows: list[ZooRow]) -> None:
        """Take the rows of a model."""
        for row in rows:
            append_row(self._kept, row)
        self._done += 1
        spent = time.monotonic() - self._begin
        minutes = spent / self._done * (self._left - self._done) / 60
        told = '; '.join(
            f'{row.mode}: {row.status}'
            + ('' if row.share is None else f', {row.share:.1%}')
            + (f' ({row.reason})' if row.reason else '')
            for row in rows
        )
        number = self._total - self._left + self._done
        self._console.print(
            f'[{number}/{self._total}, {minutes:.0f} min left] '
            f'{model.name}: {told}',
            markup=False,
            soft_wrap=True,
            highlight=False,
        )


def show_counts(rows: Sequence[ZooRow], console: Console) -> None:
    """Tell how many models came to what."""
    for mode in dict.fromkeys(row.mode for row in rows):
        counts = Counter(row.status for row in rows if row.mode == mode)
        told = ', '.join(f'{n} {status}' for status, n in counts.items())
        console.print(f'{mode}: {told}', markup=False)


def read_rows(path: Path) -> list[ZooRow]:
    """Read the rows that were kept, the last one of a model and mode.

    A line that was not written to its end is left out.

    Args:
        path: A file of :func:`append_row`, or one that is not there yet.
    """
    if not path.exists():
        return []
    rows: dict[tuple[str, str], ZooRow] = {}
    for line in path.read_text().splitlines():
        try:
            content = json.loads(line)
        except json.JSONDecodeError:
            continue
        content['configs'] = tuple(content['configs'])
        row = ZooRow(**content)
        rows[row.model, row.mode] = row
    return list(rows.values())


def append_row(path: Path, row: ZooRow) -> None:
    """Keep a row, on a line of its own."""
    with path.open('a') as file:
        file.write(json.dumps(asdict(row)) + '\n')


def write_tables(out: Path, name: str, rows: Iterable[ZooRow]) -> str:
    """Write a table as CSV, JSON and markdown.

    Args:
        out: Folder.
        name: Of the files, and the title of the markdown.
        rows: Rows of the table.

    Returns:
        The markdown.
    """
    rows = sorted(rows, key=lambda row: (row.mode != 'stream', row.model))
    columns = [field.name for field in fields(ZooRow)]
    with (out / f'{name}.csv').open('w', newline='') as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            writer.writerow({**asdict(row), 'configs': ' '.join(row.configs)})
    content = json.dumps([asdict(row) for row in rows], indent=1)
    (out / f'{name}.json').write_text(content + '\n')
    text = markdown(name, rows)
    (out / f'{name}.md').write_text(text)
    return text


def markdown(name: str, rows: Sequence[ZooRow]) -> str:
    """Write counts by status, then the rows that are not equal, and why.

    Args:
        name: Title.
        rows: Rows of the table.
    """
    modes = list(dict.fromkeys(row.mode for row in rows))
    counts = Counter((row.status, row.mode) for row in rows)
    configs = {c for row in rows for c in row.configs}
    num_models = len({row.model for row in rows})
    lines = [
        f'## {name}',
        '',
        f'{num_models} distinct models of {len(configs)} configs.',
        '',
        '| | ' + ' | '.join(modes) + ' |',
        '|---|' + '---|' * len(modes),
    ]
    met = {row.status for row in rows}
    for status in (status for status in STATUSES if status in met):
        figures = ' | '.join(str(counts[status, mode]) for mode in modes)
        lines.append(f'| {status} | {figures} |')
    errors = [row.error for row in rows if row.status == 'equal']
    if errors:
        lines += ['', f'Largest error of an equal one: {max(errors):.1e}.']
    for status in (s for s in STATUSES if s not in ('equal', 'converted')):
        lines += _listed(status, [r for r in rows if r.status == status])
    return '\n'.join(lines) + '\n'


def _listed(status: str, rows: Sequence[ZooRow]) -> list[str]:
    """List models of a status, those of one reason in one line."""
    if not rows:
        return []
    models: dict[tuple[str, str], list[str]] = {}
    shares = {
        row.model: '' if row.share is None else f' {100 * row.share:.1f} %'
        for row in rows
    }
    for row in rows:
        models.setdefault((row.reason, row.model), []).append(row.mode)
    grouped: dict[tuple[str, str], list[str]] = {}
    for (reason, model), modes in models.items():
        key = reason, ', '.join(modes)
        grouped.setdefault(key, []).append(model)
    lines = [
        '',
        f'### {status}',
        '',
        '| reason | mode | models |',
        '|---|---|---|',
    ]
    for (reason, modes), names in grouped.items():
        listed = ', '.join(f'`{name}`{shares[name]}' for name in names)
        reason = reason.replace('|', '\\|')
        lines.append(f'| {reason} | {modes} | {len(names)}: {listed} |')
    return lines


if __name__ == '__main__':
    sys.exit(run_tool(main, 'check_zoo'))

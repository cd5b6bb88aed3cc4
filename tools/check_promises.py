"""Check that what once went wrong without a word goes wrong no more.

Wrong results of plans, folds, gates and loaders, files that ran code or ended
the process, threads, memory and signals: a small reproduction of each, which
makes what it needs. Exit code 1 if one does not hold.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from promises import (
    checkpoints,
    files,
    folding,
    layouts,
    levels,
    order,
    plans,
    weights,
)
from rich.console import Console
from rich.table import Table

from mmskip.apis.errors import EXIT_INCOMPLETE, EXIT_OK, run_tool

MODULES = (
    *(plans, weights, folding, order, levels),
    *(layouts, checkpoints, files),
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--only', default='', help='a part of the names of those to check'
    )
    parser.add_argument('--json', type=Path, help='file for what was found')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    warnings.simplefilter('ignore')  # some checks ask for them
    console, rows = Console(), []
    table = Table('what must hold', 'holds', 'what was found', 's')
    for module in MODULES:
        for check in module.CHECKS:
            name = f'{module.__name__.rpartition(".")[2]}: {check.__name__}'
            if args.only not in name:
                continue
            console.print(f'checking {name.replace("_", " ")}', style='dim')
            begin = time.perf_counter()
            held, found = check()
            held = bool(held)
            seconds = time.perf_counter() - begin
            rows.append(
                dict(check=name, held=held, found=found, seconds=seconds)
            )
            table.add_row(
                name.replace('_', ' '),
                'yes' if held else '[red]NO',
                found.replace('[', r'\['),
                f'{seconds:.1f}',
            )
    console.print(table)
    held = sum(row['held'] for row in rows)
    console.print(f'{held} of {len(rows)} hold')
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    return EXIT_OK if held == len(rows) else EXIT_INCOMPLETE


if __name__ == '__main__':
    sys.exit(run_tool(main, 'check_promises'))

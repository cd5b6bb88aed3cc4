"""The results of several methods as a table in the terminal."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from mmskip.evaluation import DETECTION, Task
from mmskip.visualization.rows import Row, check_rows


def results_table(
    rows: Sequence[Row], title: str | None = None, task: Task = DETECTION
) -> Table:
    """Make a table of accuracy, cost and time.

    Args:
        rows: See :mod:`mmskip.visualization.rows`.
        title: Over the table.
        task: Which figures they have.

    Raises:
        ValueError: No rows, or a key is missing.
    """
    check_rows(rows, task)
    has_setting = any(row.get('setting') for row in rows)
    table = Table(title=title, box=box.SIMPLE_HEAD)
    table.add_column('method', overflow='fold')
    if has_setting:
        table.add_column('setting', overflow='fold')
    costs = (f'GMAC/\n{task.unit}', 'reduction', f'ms/\n{task.unit}')
    for name in (task.accuracy, *task.extras, *costs):
        table.add_column(name, justify='right', no_wrap=True)
    table.add_column('backend', no_wrap=True)
    for row in rows:
        time = row[task.time]
        table.add_row(
            str(row['method']),
            *([str(row.get('setting') or '')] * has_setting),
            with_spread(row, task.accuracy, task.digits),
            *(f'{row[key]:.{task.digits}f}' for key in task.extras),
            f'{row[task.cost]:.3g}',
            f'{row["reduction"]:.2f}x',
            '-' if time is None else f'{time:.1f}',
            str(row['backend']),
        )
    return table


def comparison_table(
    rows: Sequence[Row], title: str | None = None, task: Task = DETECTION
) -> Table:
    """Make a table of accuracies at one cost.

    Args:
        rows: From :func:`mmskip.evaluation.compare_at`.
        title: Over the table.
        task: What accuracy and cost are.
    """
    table = Table(title=title, box=box.SIMPLE_HEAD)
    table.add_column('method', overflow='fold')
    table.add_column(task.accuracy, no_wrap=True)
    table.add_column('seeds', justify='right')
    table.add_column(f'reaches, GMAC/{task.unit}', no_wrap=True)
    for row in rows:
        table.add_row(
            str(row['method']),
            'out of range'
            if row[task.accuracy] is None
            else with_spread(row, task.accuracy, task.digits),
            str(row['seeds']),
            f'{row["gmac_from"]:.3g} to {row["gmac_to"]:.3g}',
        )
    return table


def with_spread(row: Row, key: str, digits: int) -> str:
    """A mean with its standard deviation, if the row has one."""
    figures = [row[key], row.get(f'{key}_std')]
    return ' ± '.join(f'{x:.{digits}f}' for x in figures if x is not None)


def print_table(
    rows: Sequence[Row],
    console: Console | None = None,
    title: str | None = None,
    task: Task = DETECTION,
) -> None:
    """Print :func:`results_table`; in a pipe it is as wide as it needs.

    Args:
        rows: See :mod:`mmskip.visualization.rows`.
        console: Where to print; ``None`` makes one for stdout.
        title: Over the table.
        task: Which figures they have.
    """
    _print_wide(results_table(rows, title, task), console or Console())


def print_comparison(
    rows: Sequence[Row],
    console: Console | None = None,
    title: str | None = None,
    task: Task = DETECTION,
) -> None:
    """Print :func:`comparison_table`; see :func:`print_table`."""
    _print_wide(comparison_table(rows, title, task), console or Console())


def _print_wide(table: Table, console: Console) -> None:
    width = console.width
    if not console.is_terminal:
        unlimited = console.options.update(max_width=1000)
        needed = Measurement.get(console, unlimited, table).maximum
        console.width = max(width, needed)
    console.print(table)
    console.width = width

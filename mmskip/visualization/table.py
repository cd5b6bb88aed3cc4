"""The results of several methods as a table in the terminal."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from mmskip.visualization.rows import Row, check_rows


def results_table(rows: Sequence[Row], title: str | None = None) -> Table:
    """Make a table of accuracy, cost and time.

    Args:
        rows: See :mod:`mmskip.visualization.rows`.
        title: Over the table.

    Raises:
        ValueError: No rows, or a key is missing.
    """
    check_rows(rows)
    has_setting = any(row.get('setting') for row in rows)
    table = Table(title=title, box=box.SIMPLE_HEAD)
    table.add_column('method', overflow='fold')
    if has_setting:
        table.add_column('setting', overflow='fold')
    for name in ('AP', 'AP50', 'GMAC/\nframe', 'reduction', 'ms/\nframe'):
        table.add_column(name, justify='right', no_wrap=True)
    table.add_column('backend', no_wrap=True)
    for row in rows:
        time = row['ms_per_frame']
        table.add_row(
            str(row['method']),
            *([str(row.get('setting') or '')] * has_setting),
            with_spread(row, 'AP'),
            f'{row["AP50"]:.3f}',
            f'{row["gmac_per_frame"]:.3g}',
            f'{row["reduction"]:.2f}x',
            '-' if time is None else f'{time:.1f}',
            str(row['backend']),
        )
    return table


def comparison_table(rows: Sequence[Row], title: str | None = None) -> Table:
    """Make a table of accuracies at one cost.

    Args:
        rows: From :func:`mmskip.evaluation.compare_at`.
        title: Over the table.
    """
    table = Table(title=title, box=box.SIMPLE_HEAD)
    table.add_column('method', overflow='fold')
    table.add_column('AP', no_wrap=True)
    table.add_column('seeds', justify='right')
    table.add_column('reaches, GMAC/frame', no_wrap=True)
    for row in rows:
        table.add_row(
            str(row['method']),
            'out of range' if row['AP'] is None else with_spread(row, 'AP'),
            str(row['seeds']),
            f'{row["gmac_from"]:.3g} to {row["gmac_to"]:.3g}',
        )
    return table


def with_spread(row: Row, key: str) -> str:
    """A mean with its standard deviation, if the row has one."""
    spread = row.get(f'{key}_std')
    return f'{row[key]:.3f}' + ('' if spread is None else f' ± {spread:.3f}')


def print_table(
    rows: Sequence[Row],
    console: Console | None = None,
    title: str | None = None,
) -> None:
    """Print :func:`results_table`; in a pipe it is as wide as it needs.

    Args:
        rows: See :mod:`mmskip.visualization.rows`.
        console: Where to print; ``None`` makes one for stdout.
        title: Over the table.
    """
    _print_wide(results_table(rows, title), console or Console())


def print_comparison(
    rows: Sequence[Row],
    console: Console | None = None,
    title: str | None = None,
) -> None:
    """Print :func:`comparison_table`; see :func:`print_table`."""
    _print_wide(comparison_table(rows, title), console or Console())


def _print_wide(table: Table, console: Console) -> None:
    width = console.width
    if not console.is_terminal:
        unlimited = console.options.update(max_width=1000)
        needed = Measurement.get(console, unlimited, table).maximum
        console.width = max(width, needed)
    console.print(table)
    console.width = width

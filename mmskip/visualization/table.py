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
            f'{row["AP"]:.3f}',
            f'{row["AP50"]:.3f}',
            f'{row["gmac_per_frame"]:.3g}',
            f'{row["reduction"]:.2f}x',
            '-' if time is None else f'{time:.1f}',
            str(row['backend']),
        )
    return table


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
    console = console or Console()
    table = results_table(rows, title)
    width = console.width
    if not console.is_terminal:
        unlimited = console.options.update(max_width=1000)
        needed = Measurement.get(console, unlimited, table).maximum
        console.width = max(width, needed)
    console.print(table)
    console.width = width

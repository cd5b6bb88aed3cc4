"""The results of several methods as a table in the terminal.

A row is a dict with ``method``, ``backend`` and the figures of a
:class:`mmskip.evaluation.Task`, and perhaps ``setting``, what distinguishes
rows of one method (a threshold, an interval), and the accuracy and the cost
with ``_std`` behind their names, if it is a mean over seeds. APs are
fractions in [0, 1], other accuracies percent; times are None where nobody
measured.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from mmskip.evaluation import DETECTION, Task

METHOD_LABELS = {
    'dense': 'Dense',
    'every_kth': 'TSN on every k-th frame',
    'feature_flow': 'Deep Feature Flow',
    'frame_gates': 'Gumbel gates that see the frame',
    'gumbel': 'Skip-Conv, Gumbel gates',
    'gumbel_block_2': 'Skip-Conv, Gumbel gates, blocks of 2',
    'gumbel_block_4': 'Skip-Conv, Gumbel gates, blocks of 4',
    'gumbel_block_8': 'Skip-Conv, Gumbel gates, blocks of 8',
    'input_norm': 'Skip-Conv, input-norm gates',
    'keyframe': 'Frame skip (repeat last result)',
    'l0': 'L0 channel pruning',
    'output_norm': 'Skip-Conv, output-norm gates',
    'output_norm_previous': "Skip-Conv, the paper's memory",
    'pretrained': 'Dense, before fine-tuning',
    'random': 'TSN on random frames',
    's_svd': 'Spatial SVD',
    's_svd_gumbel': 'Spatial SVD + Skip-Conv, Gumbel gates',
    'sof': 'SoF-Net',
    'sof_no_exit': 'SoF-Net without early termination',
    'tsn': 'TSN',
    'tsn_exit': 'TSN until a class is certain',
    'va_red2': 'VA-RED²',
    'w_svd': 'Weight SVD',
}

Row = Mapping[str, Any]


def check_rows(rows: Sequence[Row], task: Task = DETECTION) -> None:
    """Check that every row has what a row needs.

    Raises:
        ValueError: No rows, or a key is missing.
    """
    if not rows:
        raise ValueError('expected at least one row of results, got none')
    for index, row in enumerate(rows):
        needed = ('method', *task.figures, 'backend')
        missing = [key for key in needed if key not in row]
        if missing:
            raise ValueError(
                f'row {index} ({row.get("method")!r}) lacks '
                f'{", ".join(missing)}; got {", ".join(row) or "nothing"}'
            )


def method_label(method: str) -> str:
    """Return the label of a method in tables and plots."""
    return METHOD_LABELS.get(method, method.replace('_', ' '))


def results_table(
    rows: Sequence[Row], title: str | None = None, task: Task = DETECTION
) -> Table:
    """Make a table of accuracy, cost and time.

    Args:
        rows: See :mod:`mmskip.visualization.table`.
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
    has_time = any(row[task.time] is not None for row in rows)
    costs = [f'GMAC/\n{task.unit}', 'reduction']
    costs += [f'ms/\n{task.unit}'] * has_time
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
            *(['-' if time is None else f'{time:.1f}'] * has_time),
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
    """Return a mean with its standard deviation, if the row has one."""
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
        rows: See :mod:`mmskip.visualization.table`.
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

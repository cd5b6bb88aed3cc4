"""The table of a check: a row for each model, kept as they come."""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

#: What a model can come to, in the order of the table.
STATUSES = (
    'equal',
    'differs',
    'undetermined',
    'fails',
    'refused',
    'does not run densely',
)


@dataclass(frozen=True)
class Row:
    """What came of a model in one mode.

    Attributes:
        host: Its package.
        model: Name, see :class:`.configs.ZooModel`.
        mode: ``stream`` or ``plan``.
        status: One of :data:`STATUSES`; ``undetermined`` if the dense model
            differs from itself as soon as the last bits of its pictures do.
        reason: Why it is not equal, or the largest error.
        error: Largest difference, as a share of the largest value of its
            tensor; None where nothing could be compared.
        size: Of a frame, ``1x3x128x128``.
        layers: Number of converted layers.
        planned: How many of them run in a plan.
        seconds: For the model, in all modes.
        configs: All configs of the model.
    """

    host: str
    model: str
    mode: str
    status: str
    reason: str = ''
    error: float | None = None
    size: str = ''
    layers: int = 0
    planned: int = 0
    seconds: float = 0.0
    configs: tuple[str, ...] = ()


def read_rows(path: Path) -> list[Row]:
    """Rows that were kept; the last one of a model and mode counts.

    A line that was not written to its end is left out.

    Args:
        path: A file of :func:`append_row`, or one that is not there yet.
    """
    if not path.exists():
        return []
    rows: dict[tuple[str, str], Row] = {}
    for line in path.read_text().splitlines():
        try:
            content = json.loads(line)
        except json.JSONDecodeError:
            continue
        content['configs'] = tuple(content['configs'])
        row = Row(**content)
        rows[row.model, row.mode] = row
    return list(rows.values())


def append_row(path: Path, row: Row) -> None:
    """Keep a row, on a line of its own."""
    with path.open('a') as file:
        file.write(json.dumps(asdict(row)) + '\n')


def write_tables(out: Path, host: str, rows: Iterable[Row]) -> str:
    """Write a table as CSV, JSON and markdown.

    Args:
        out: Folder; the files are called as the host.
        host: Package.
        rows: Of the table.

    Returns:
        The markdown.
    """
    rows = sorted(rows, key=lambda row: (row.mode != 'stream', row.model))
    names = [field.name for field in fields(Row)]
    with (out / f'{host}.csv').open('w', newline='') as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for row in rows:
            writer.writerow({**asdict(row), 'configs': ' '.join(row.configs)})
    content = json.dumps([asdict(row) for row in rows], indent=1)
    (out / f'{host}.json').write_text(content + '\n')
    text = markdown(host, rows)
    (out / f'{host}.md').write_text(text)
    return text


def markdown(host: str, rows: Sequence[Row]) -> str:
    """Counts by status, then the rows that are not equal, with reasons.

    Args:
        host: Package.
        rows: Of the table.
    """
    modes = list(dict.fromkeys(row.mode for row in rows))
    counts = Counter((row.status, row.mode) for row in rows)
    configs = {c for row in rows for c in row.configs}
    num_models = len({row.model for row in rows})
    lines = [
        f'## {host}',
        '',
        f'{num_models} distinct models of {len(configs)} configs.',
        '',
        '| | ' + ' | '.join(modes) + ' |',
        '|---|' + '---|' * len(modes),
    ]
    for status in STATUSES:
        figures = ' | '.join(str(counts[status, mode]) for mode in modes)
        lines.append(f'| {status} | {figures} |')
    errors = [row.error for row in rows if row.status == 'equal']
    if errors:
        lines += ['', f'Largest error of an equal one: {max(errors):.1e}.']
    for status in STATUSES[1:]:
        lines += _listed(status, [r for r in rows if r.status == status])
    return '\n'.join(lines) + '\n'


def _listed(status: str, rows: Sequence[Row]) -> list[str]:
    """Models of a status, those of one reason in one line."""
    if not rows:
        return []
    models: dict[tuple[str, str], list[str]] = {}
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
        listed = ', '.join(f'`{name}`' for name in names)
        reason = reason.replace('|', '\\|')
        lines.append(f'| {reason} | {modes} | {len(names)}: {listed} |')
    return lines

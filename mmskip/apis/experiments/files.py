"""Results as rows, as CSV and as JSON."""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmskip.apis.errors import UserError
from mmskip.evaluation import DETECTION, Task
from mmskip.ops import active_backend


def make_row(
    method: str,
    setting: str,
    metrics: Mapping[str, float],
    task: Task = DETECTION,
    **more: Any,
) -> dict[str, Any]:
    """A row for tables and plots, see :mod:`mmskip.visualization.rows`.

    Args:
        method: Name of the method.
        setting: What tells it from other rows of the method.
        metrics: What the metrics of a test reported.
        task: Which of them matter.
        **more: Added to the row.

    Raises:
        UserError: A metric is missing.
    """
    names = task.metrics
    missing = [name for name in names.values() if name not in metrics]
    if missing:
        raise UserError(
            f'the test reports no {", ".join(missing)}; expected '
            f'{task.needs} in test_evaluator'
        )
    return {
        'method': method,
        'setting': setting,
        **more,
        **{key: metrics[name] for key, name in names.items()},
        task.time: None,
        'backend': active_backend(),
    }


def slug(name: str) -> str:
    """A name as a folder's, which tools take on their command lines."""
    return re.sub(r'[^\w.+-]+', '_', name)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows, the keys of the first one as the header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w', newline='') as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def write_json(path: Path, content: Any) -> None:
    """Write what JSON knows, indented."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + '\n')

"""Rows of results: what the table and the plots take.

A row is a dict with ``method``, ``AP``, ``AP50``, ``gmac_per_frame``,
``dense_gmac_per_frame``, ``reduction``, ``ms_per_frame`` and ``backend``,
and perhaps ``setting``, what distinguishes rows of one method (a threshold,
an interval), and ``AP_std`` and ``gmac_per_frame_std``, if it is a mean over
seeds. APs are fractions in [0, 1]; ``ms_per_frame`` is None where
nobody measured.
"""

from collections.abc import Mapping, Sequence
from typing import Any

REQUIRED_KEYS = (
    'method',
    'AP',
    'AP50',
    'gmac_per_frame',
    'dense_gmac_per_frame',
    'reduction',
    'ms_per_frame',
    'backend',
)
METHOD_LABELS = {
    'dense': 'Dense',
    'feature_flow': 'Deep Feature Flow',
    'frame_gates': 'Gumbel gates that see the frame',
    'gumbel': 'Skip-Conv, Gumbel gates',
    'input_norm': 'Skip-Conv, input-norm gates',
    'keyframe': 'Frame skip (repeat last result)',
    'output_norm': 'Skip-Conv, output-norm gates',
    'output_norm_previous': "Skip-Conv, the paper's memory",
    'pretrained': 'Dense, before fine-tuning',
}

Row = Mapping[str, Any]


def check_rows(rows: Sequence[Row]) -> None:
    """Check that every row has what a row needs.

    Raises:
        ValueError: No rows, or a key is missing.
    """
    if not rows:
        raise ValueError('expected at least one row of results, got none')
    for index, row in enumerate(rows):
        missing = [key for key in REQUIRED_KEYS if key not in row]
        if missing:
            raise ValueError(
                f'row {index} ({row.get("method")!r}) lacks '
                f'{", ".join(missing)}; got {", ".join(row) or "nothing"}'
            )


def method_label(method: str) -> str:
    """What readers see in place of a method's key."""
    return METHOD_LABELS.get(method, method.replace('_', ' '))

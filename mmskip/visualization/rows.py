"""Rows of results: what the table and the plots take.

A row is a dict with ``method``, ``backend`` and the figures of a
:class:`mmskip.evaluation.Task`, and perhaps ``setting``, what distinguishes
rows of one method (a threshold, an interval), and the accuracy and the cost
with ``_std`` behind their names, if it is a mean over seeds. APs are
fractions in [0, 1], other accuracies percent; times are None where nobody
measured.
"""

from collections.abc import Mapping, Sequence
from typing import Any

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
    """What readers see in place of a method's key."""
    return METHOD_LABELS.get(method, method.replace('_', ' '))

"""Labels as mmaction2 packs them, checked."""

from collections.abc import Sequence

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor


def label_matrix(
    data_samples: Sequence[BaseDataElement], num_classes: int
) -> Tensor:
    """One row per video with a 1 for each of its labels.

    Args:
        data_samples: Each with ``gt_label``: one index, shape (1,), or, with
            several labels per video (``multi_class`` of mmaction2's data
            sets) or blended videos, a row of shape (K,).
        num_classes: K.

    Returns:
        Float (B, K).

    Raises:
        ValueError: A label does not fit the number of classes.
    """
    rows = []
    for sample in data_samples:
        label = sample.gt_label
        if label.numel() == num_classes > 1:
            rows.append(label.float())
        elif label.numel() == 1 and 0 <= int(label) < num_classes:
            row = torch.zeros(num_classes, device=label.device)
            rows.append(row.index_fill(0, label.reshape(1).long(), 1))
        else:
            raise ValueError(
                f'expected a label in [0, {num_classes}) or a row of '
                f'{num_classes} labels, got {label.tolist()}; set '
                'num_classes of the cls_head (and of the dataset, if '
                'multi_class) to the number of classes of the data'
            )
    return torch.stack(rows)

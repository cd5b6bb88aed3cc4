"""Average precision of a ranking, in the two ways ActivityNet is scored.

Predictions are sorted by descending score; among equal scores the order of
the videos stays, so that results are reproducible.
"""

import numpy as np


def precision_at_positives(
    scores: np.ndarray, positives: np.ndarray
) -> np.ndarray:
    """Precision at the rank of each positive, best rank first.

    Args:
        scores: Of every video for one class, shape (videos,).
        positives: Whether a video shows the class, bool, shape (videos,).

    Returns:
        Shape (number of positives,).
    """
    order = np.argsort(-scores, kind='stable')
    ranks = np.flatnonzero(positives[order]) + 1
    return np.arange(1, len(ranks) + 1) / ranks


def average_precision(scores: np.ndarray, positives: np.ndarray) -> float:
    """Mean precision at the positives, not interpolated.

    What the code of AR-Net and SoF-Net computes, there called mmAP.

    Args:
        scores: Shape (videos,).
        positives: bool, shape (videos,).

    Returns:
        In [0, 1]; NaN without a positive.
    """
    precision = precision_at_positives(scores, positives)
    return float(precision.mean()) if len(precision) else float('nan')


def interpolated_average_precision(
    scores: np.ndarray, positives: np.ndarray
) -> float:
    """Mean over the positives of the best precision at no lower recall.

    ActivityNet's official classification metric: the area below the
    monotone envelope of the precision-recall curve. Never less than
    :func:`average_precision`.

    Args:
        scores: Shape (videos,).
        positives: bool, shape (videos,).

    Returns:
        In [0, 1]; NaN without a positive.
    """
    precision = precision_at_positives(scores, positives)
    if not len(precision):
        return float('nan')
    return float(np.maximum.accumulate(precision[::-1]).mean())

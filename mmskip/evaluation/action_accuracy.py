"""Accuracy of recognisers over videos.

Predictions are sorted by descending score; among equal scores the order of
the videos stays, so that results are reproducible.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from mmskip.registry import METRICS

from .compute_cost import BROKEN, read_labels, read_scores, video_name


def precision_at_positives(
    scores: np.ndarray, positives: np.ndarray
) -> np.ndarray:
    """Return the precision at the rank of each positive, best rank first.

    Args:
        scores: Score of every video for one class, shape (videos,).
        positives: Whether a video shows the class, bool, shape (videos,).

    Returns:
        Shape (number of positives,).
    """
    order = np.argsort(-scores, kind='stable')
    ranks = np.flatnonzero(positives[order]) + 1
    return np.arange(1, len(ranks) + 1) / ranks


def average_precision(scores: np.ndarray, positives: np.ndarray) -> float:
    """Return the mean precision at the positives, not interpolated.

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
    """Average, over the positives, the best precision at no lower recall.

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


VARIANTS = dict(
    interpolated=interpolated_average_precision,
    plain=average_precision,
)


@METRICS.register_module()
class ActionAccuracy(BaseMetric):
    """Mean average precision as in ActivityNet, and top-1 accuracy.

    ``mAP`` is the mean over the classes that occur in the test set of the
    average precision in the chosen variant, in percent:

    - ``interpolated``, the default: the official evaluation of ActivityNet;
    - ``plain``: mean precision at each positive, which the code of AR-Net
      and SoF-Net computes. It is lower.

    A third variant in use, the area below the steps of the curve with equal
    scores at one threshold, is mmaction2's ``AccMetric`` with
    ``mean_average_precision``; it equals ``plain`` where no scores are
    equal. ``mAP_interpolated`` and ``mAP_plain`` are both reported.

    ``top1`` (percent) counts a video as right if its best class is one of
    its labels; videos without labels do not count in it. Videos that could
    not be decoded (see ``mmskip.ActionVideoDataset``) are left out of all
    figures, logged, and counted in ``broken``.

    Args:
        mAP: The variant that is reported as ``mAP``.
        collect_device: ``cpu`` or ``gpu``, see mmengine's ``BaseMetric``.
        prefix: Put before the names of the figures.

    Raises:
        ValueError: There is no such variant.
    """

    default_prefix = 'acc'

    def __init__(
        self,
        mAP: str = 'interpolated',
        collect_device: Literal['cpu', 'gpu'] = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        if mAP not in VARIANTS:
            raise ValueError(
                f'expected mAP to be one of {tuple(VARIANTS)}, got {mAP!r}'
            )
        self.variant = mAP

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep scores and labels of a batch.

        Raises:
            TypeError: A sample has no scores.
            ValueError: Scores are not finite, or labels not of the model's
                classes.
        """
        for sample in data_samples:
            if sample.get(BROKEN):
                name = video_name(sample)
                self.results.append(dict(broken=name, why=sample[BROKEN]))
                continue
            scores = read_scores(sample)
            labels = read_labels(sample, len(scores))
            self.results.append(dict(scores=scores, labels=labels))

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Compute the figures of all videos.

        Raises:
            RuntimeError: There is no video that could be decoded.
        """
        broken = [result for result in results if 'broken' in result]
        results = [result for result in results if 'broken' not in result]
        if not results:
            raise RuntimeError(
                f'expected at least one video that can be decoded, got none '
                f'of {len(broken)}; look at the warnings above'
            )
        for result in broken:
            MMLogger.get_current_instance().warning(
                f'left out: {result["broken"]}: {result["why"]}'
            )
        scores = np.stack([result['scores'] for result in results])
        truth = np.zeros(scores.shape, bool)
        for row, result in zip(truth, results, strict=True):
            row[list(result['labels'])] = True
        figures = {
            f'mAP_{name}': mean_over_classes(function, scores, truth)
            for name, function in VARIANTS.items()
        }
        return dict(
            mAP=figures[f'mAP_{self.variant}'],
            **figures,
            top1=100 * top1_accuracy(scores, truth),
            broken=float(len(broken)),  # mmengine's logger drops integers
        )


def mean_over_classes(
    function: Any, scores: np.ndarray, truth: np.ndarray
) -> float:
    """Return the mAP of the classes with a positive, in percent.

    Args:
        function: Average precision of one class.
        scores: Shape (videos, classes).
        truth: bool, shape (videos, classes).

    Returns:
        In [0, 100]; NaN if no video has a label.
    """
    found = [
        function(scores[:, index], truth[:, index])
        for index in np.flatnonzero(truth.any(0))
    ]
    return 100 * float(np.mean(found)) if found else float('nan')


def top1_accuracy(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of labelled videos whose best class is right."""
    labelled = truth.any(1)
    if not labelled.any():
        return float('nan')
    best = scores[labelled].argmax(1)
    return float(truth[labelled][np.arange(len(best)), best].mean())

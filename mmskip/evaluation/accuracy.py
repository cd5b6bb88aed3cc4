"""Accuracy of recognisers over videos and clips, and what clips cost.

Predictions are sorted by descending score; among equal scores the order of
the videos stays, so that results are reproducible.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from scipy.special import softmax

from mmskip.engine import StopwatchReader
from mmskip.registry import METRICS

from .compute_cost import (
    BROKEN,
    GIGA,
    by_group,
    group_of,
    read_groups,
    read_labels,
    read_scores,
    read_view_scores,
    video_name,
)

# mmaction2's ThreeCrop gives left, right, centre.
CENTRE_OF_THREE = 2


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


@METRICS.register_module()
class ClipCost(BaseMetric, StopwatchReader):
    """GMACs of clips: average, largest, smallest (Table 4.1, VA-RED^2).

    Every view (clip and crop) of every video counts once:

    - ``gmac_per_clip``, ``max_gmac``, ``min_gmac``: whole model, gates and
      cheap maps included (the thesis calls them GFLOPs);
    - ``dense_gmac_per_clip`` and ``reduction``: of a model that computes
      everything, and how many times as much that is;
    - ``clips_per_second``: views by the time of the model, if
      ``mmskip.VideoTimerHook`` is there; loading and decoding not included;
    - ``gmac_<group>``: the average of each group, if there are groups;
    - ``clips``.

    MACs are read from ``clip_macs`` and ``clip_dense_macs`` of the data
    samples, shape (views,), which ``mmskip.ClipCostHook`` writes. Videos
    that could not be decoded count in the time only.

    Args:
        groups: JSON file with the group of each video
            (:func:`mmskip.evaluation.compute_cost.read_groups`).
        out_file: JSON file for the figures and, per video, MACs of its
            views; read by ``tools/analysis``.
        warmup: Batches at the start whose time does not count.
        collect_device: ``cpu`` or ``gpu``, see mmengine's ``BaseMetric``.
        prefix: Put before the names of the figures.

    Raises:
        ValueError: ``warmup`` is negative.
    """

    default_prefix = 'cost'

    def __init__(
        self,
        groups: str | None = None,
        out_file: str | None = None,
        warmup: int = 1,
        collect_device: Literal['cpu', 'gpu'] = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        if warmup < 0:
            raise ValueError(f'expected warmup >= 0, got {warmup}')
        self.groups = groups
        self.out_file = out_file
        self.warmup = warmup
        self._batches = 0

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Read the MACs and the time of a batch.

        Raises:
            RuntimeError: Nobody counted.
        """
        seconds = self.stopwatch.stop() if self.stopwatch else None
        if self._batches < self.warmup:
            seconds = None
        self._batches += 1
        for sample in data_samples:
            result = dict(
                video=video_name(sample),
                macs=_read_macs(sample, 'clip_macs'),
                dense_macs=_read_macs(sample, 'clip_dense_macs'),
            )
            if sample.get(BROKEN):
                result['broken'] = True
            if seconds is not None:
                result['seconds'] = seconds / len(data_samples)
            self.results.append(result)

    def evaluate(self, size: int) -> dict:
        """Compute the figures of all clips, on rank 0 for every rank."""
        self._batches = 0
        return super().evaluate(size)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Compute the figures of all clips.

        Raises:
            RuntimeError: There is no video that could be decoded.
            ValueError: A video has no group.
        """
        videos = [result for result in results if 'broken' not in result]
        if not videos:
            raise RuntimeError(
                'expected at least one video that can be decoded, got none'
            )
        macs = np.concatenate([video['macs'] for video in videos]) / GIGA
        dense = np.concatenate([video['dense_macs'] for video in videos])
        figures = dict(
            gmac_per_clip=float(macs.mean()),
            dense_gmac_per_clip=float(dense.mean()) / GIGA,
            reduction=float(dense.mean()) / GIGA / float(macs.mean()),
            max_gmac=float(macs.max()),
            min_gmac=float(macs.min()),
            **_speed(results),
        )
        if self.groups is not None:
            groups = read_groups(self.groups)
            for video in videos:
                video['group'] = group_of(video['video'], groups)
            for group, members in by_group(videos):
                found = np.concatenate([video['macs'] for video in members])
                figures[f'gmac_{group}'] = float(found.mean()) / GIGA
        figures['clips'] = float(len(macs))  # the logger drops integers
        if self.out_file is not None:
            path = Path(self.out_file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(dict(figures=figures, videos=videos)))
        return figures


@METRICS.register_module()
class ClipAccuracy(BaseMetric):
    """clip-1, video-1 and video-5 of the thesis on VA-RED^2 (section 4.1).

    A video is seen in K clips and left, centre and right crops of each
    (K-LeftCenterRight). In percent of the videos:

    - ``clip-1``: the best class of one view is right. Which clip the thesis
      takes is not told; here it is the middle one of K (the later of two),
      in its centre crop;
    - ``video-1``, ``video-5``: the best class, or one of the best five, of
      the mean over all views of the softmax of their scores is right.

    The head needs ``average_clips=None``, so that samples carry the scores
    of all views, in the order of mmaction2: all clips of the first crop,
    then of the next. Videos that could not be decoded are left out of all
    figures, logged, and counted in ``broken``.

    Args:
        num_crops: Views of each clip: 3 for ``ThreeCrop``, 1 for
            ``CenterCrop``.
        groups: JSON file with the group of each video
            (:func:`mmskip.evaluation.compute_cost.read_groups`); adds
            ``clip-1_<group>`` and ``video-1_<group>``.
        out_file: JSON file for the figures and, per video, labels, mean
            probabilities and the best classes.
        collect_device: ``cpu`` or ``gpu``, see mmengine's ``BaseMetric``.
        prefix: Put before the names of the figures.

    Raises:
        ValueError: Another number of crops.
    """

    default_prefix = 'acc'

    def __init__(
        self,
        num_crops: int = 3,
        groups: str | None = None,
        out_file: str | None = None,
        collect_device: Literal['cpu', 'gpu'] = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        if num_crops not in (1, 3):
            raise ValueError(f'expected num_crops 1 or 3, got {num_crops}')
        self.num_crops = num_crops
        self.groups = groups
        self.out_file = out_file

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep what was predicted for a batch.

        Raises:
            TypeError: A sample has not the scores of its views.
            ValueError: Scores are not finite, are of another number of
                views, or labels are not of the model's classes.
        """
        for sample in data_samples:
            name = video_name(sample)
            if sample.get(BROKEN):
                self.results.append(dict(broken=name, why=sample[BROKEN]))
                continue
            scores = softmax(read_view_scores(sample), axis=1)
            view = self._one_view(len(scores), name)
            mean = scores.mean(0)
            self.results.append(
                dict(
                    video=name,
                    labels=list(read_labels(sample, scores.shape[1])),
                    clip=int(scores[view].argmax()),
                    best=np.argsort(-mean, kind='stable')[:5].tolist(),
                    scores=mean.tolist(),
                    views=len(scores),
                )
            )

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Compute the figures of all videos.

        Raises:
            RuntimeError: There is no video that could be decoded.
            ValueError: A video has no group.
        """
        broken = [result for result in results if 'broken' in result]
        videos = [result for result in results if 'broken' not in result]
        for result in broken:
            MMLogger.get_current_instance().warning(
                f'left out: {result["broken"]}: {result["why"]}'
            )
        if not videos:
            raise RuntimeError(
                'expected at least one video that can be decoded, got none '
                f'of {len(broken)}; look at the warnings above'
            )
        figures = _accuracies(videos)
        if self.groups is not None:
            groups = read_groups(self.groups)
            for video in videos:
                video['group'] = group_of(video['video'], groups)
            for group, members in by_group(videos):
                found = _accuracies(members)
                figures[f'clip-1_{group}'] = found['clip-1']
                figures[f'video-1_{group}'] = found['video-1']
        figures['broken'] = float(len(broken))
        if self.out_file is not None:
            path = Path(self.out_file)
            path.parent.mkdir(parents=True, exist_ok=True)
            classes = list((self.dataset_meta or {}).get('classes', ()))
            report = dict(figures=figures, classes=classes, videos=videos)
            path.write_text(json.dumps(report))
        return figures

    def _one_view(self, views: int, name: str | None) -> int:
        """Pick the centre crop of the middle clip among mmaction2's views."""
        clips, rest = divmod(views, self.num_crops)
        if rest:
            raise ValueError(
                f'expected views of {name} in {self.num_crops} crops, got '
                f'{views} views; set num_crops of ClipAccuracy to the number '
                'of crops of the test pipeline'
            )
        crop = CENTRE_OF_THREE if self.num_crops == 3 else 0
        return crop * clips + clips // 2


def _read_macs(sample: dict, key: str) -> list[int]:
    """Return the MACs of each view of a video."""
    macs = sample.get(key)
    if macs is None:
        raise RuntimeError(
            f'expected `{key}` in every data sample, got none; add '
            "custom_hooks=[dict(type='mmskip.ClipCostHook')]"
        )
    return torch.as_tensor(macs).flatten().tolist()


def _speed(results: Sequence[Mapping]) -> dict[str, float]:
    """Return the clips per second of the videos that were timed, if any."""
    timed = [result for result in results if 'seconds' in result]
    if not timed:
        return {}
    seconds = sum(result['seconds'] for result in timed)
    clips = sum(len(result['macs']) for result in timed)
    return dict(clips_per_second=clips / seconds)


def _accuracies(videos: Sequence[Mapping]) -> dict[str, float]:
    """Compute how many percent of the videos are right."""

    def percent(right: list[bool]) -> float:
        return 100 * float(np.mean(right))

    return {
        'clip-1': percent([v['clip'] in v['labels'] for v in videos]),
        'video-1': percent([v['best'][0] in v['labels'] for v in videos]),
        'video-5': percent(
            [not set(v['best']).isdisjoint(v['labels']) for v in videos]
        ),
    }

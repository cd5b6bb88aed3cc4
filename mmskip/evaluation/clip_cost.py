"""What recognising a clip costs, and how it differs between clips."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from mmengine.evaluator import BaseMetric

from mmskip.registry import METRICS
from mmskip.runtime import StopwatchReader

from .video_groups import by_group, group_of, read_groups
from .video_results import BROKEN, video_name

GIGA = 1e9


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
            (:func:`mmskip.evaluation.video_groups.read_groups`).
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
        """Figures of all clips, on rank 0 for every rank."""
        self._batches = 0
        return super().evaluate(size)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Figures of all clips.

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


def _read_macs(sample: dict, key: str) -> list[int]:
    """MACs of each view of a video."""
    macs = sample.get(key)
    if macs is None:
        raise RuntimeError(
            f'expected `{key}` in every data sample, got none; add '
            "custom_hooks=[dict(type='mmskip.ClipCostHook')]"
        )
    return torch.as_tensor(macs).flatten().tolist()


def _speed(results: Sequence[Mapping]) -> dict[str, float]:
    """Clips per second of the videos that were timed, if any were."""
    timed = [result for result in results if 'seconds' in result]
    if not timed:
        return {}
    seconds = sum(result['seconds'] for result in timed)
    clips = sum(len(result['macs']) for result in timed)
    return dict(clips_per_second=clips / seconds)

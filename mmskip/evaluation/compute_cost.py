"""The cost of inference in MACs and time, per frame and per video."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from mmengine.dist import get_world_size
from mmengine.evaluator import BaseMetric

from mmskip.core import LedgerReader, MacCount
from mmskip.engine import StopwatchReader
from mmskip.reading import InputError, read_json
from mmskip.registry import METRICS

GIGA = 1e9
# Set by ActionVideoDataset and ActionFrameDataset on stand-ins for videos
# that cannot be decoded: why they cannot.
BROKEN = 'broken'
# `sof_stops` of a frame that was never looked at.
UNSEEN = -1


@METRICS.register_module()
class ComputeCost(BaseMetric, LedgerReader):
    """MACs per frame of the whole model, from the gates' real decisions.

    Needs ``custom_hooks=[dict(type='mmskip.VideoHook')]``, which counts.
    Reports, per frame: ``gmac`` (executed and overhead, reference frames
    included; what OpenMMLab's tables call GFLOPs), ``dense_gmac`` (of the
    unconverted model); and ``reduction`` (their ratio), ``gate_share`` and
    ``reference_share`` (parts of what was spent), ``frames``.

    Args:
        out_file: JSON file for the same figures and, per layer, MACs and
            firing rate outside reference frames.
        collect_device: ``cpu`` or ``gpu``, see mmengine's ``BaseMetric``.
        prefix: Put before the names of the figures.
    """

    default_prefix = 'cost'

    def __init__(
        self,
        out_file: str | None = None,
        collect_device: Literal['cpu', 'gpu'] = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        self.out_file = out_file

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Do nothing: the ledger is filled while the model runs."""

    def evaluate(self, size: int) -> dict:
        """Sum the ledgers of all ranks.

        Raises:
            RuntimeError: No hook counted.
        """
        if self.ledger is None:
            raise RuntimeError(
                'expected VideoHook to count MACs for ComputeCost, got no '
                "ledger; add custom_hooks=[dict(type='mmskip.VideoHook')]"
            )
        # One result per rank, whatever the number of samples.
        self.results = [
            dict(
                frames=self.ledger.frames,
                layers=self.ledger.by_module(),
                uncounted=self.ledger.uncounted(),
            )
        ]
        return super().evaluate(get_world_size())

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Compute the figures per frame from the ledgers of all ranks.

        Raises:
            RuntimeError: No forward of the model itself was counted.
        """
        frames = sum(result['frames'] for result in results)
        if not frames:
            raise RuntimeError(
                'expected the loop to call the model itself, got no frame; '
                'ComputeCost does not work with wrappers that only call a '
                'part of it (test-time augmentation)'
            )
        names = dict.fromkeys(n for r in results for n in r['layers'])
        layers = {
            name: MacCount.sum(
                r['layers'][name] for r in results if name in r['layers']
            )
            for name in names
        }
        total = MacCount.sum(layers.values())
        figures = dict(
            gmac=total.spent / frames / GIGA,
            dense_gmac=total.dense / frames / GIGA,
            reduction=total.reduction,
            gate_share=total.overhead / max(total.spent, 1),
            reference_share=total.reference / max(total.spent, 1),
            frames=float(frames),  # mmengine's logger drops integers
        )
        if self.out_file is not None:
            self._dump(figures, layers, results)
        return figures

    def _dump(
        self,
        figures: dict[str, float],
        layers: dict[str, MacCount],
        results: list[dict],
    ) -> None:
        report = dict(
            **figures,
            uncounted=results[0]['uncounted'],
            layers={
                name: {**count._asdict(), 'firing_rate': count.firing_rate}
                for name, count in layers.items()
            },
        )
        path = Path(self.out_file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=2))


@METRICS.register_module()
class VideoCost(BaseMetric, LedgerReader, StopwatchReader):
    """Cost of each video and use of its frames, next to accuracy.

    Figures are means over videos, named after the thesis on Stop or Forward
    (chapter 4; its GFLOPS are MACs):

    - ``gmac_per_video``, ``gmac_per_frame`` (that by the T frames sampled,
      looked at or not); policies, gates and recurrent layers included;
    - ``dense_gmac_per_video`` and ``reduction``, if ``mmskip.VideoHook`` is
      there: what the model would cost that looks at every frame and stops
      none, and how many times as much that is;
    - ``ms_per_video``, its ``median_ms``: time of the model, if
      ``mmskip.VideoTimerHook`` is there. The thesis' Runtime/V needs batch
      size 1;
    - ``used``: percent of the frames that are forwarded to the end;
    - ``stop_1``, ``stop_2``, ...: percent that stop at each place;
    - ``unseen``: percent never looked at (early termination);
    - ``videos``.

    Frames are read from ``sof_stops`` of the data samples: LongTensor (T,),
    place at which a frame stopped, counted from 0, the number of places if
    it did not, -1 if it was not looked at. A model without it uses every
    frame. MACs are read from ``sof_macs`` of a sample, else the batch's
    MACs in the ledger, which ``mmskip.VideoHook`` fills, are shared among
    its videos. Videos that could not be decoded are left out.

    Args:
        num_places: Number of places at which frames may stop (5 for a
            ResNet); None for models that stop none.
        out_file: JSON file for the figures and, per video, labels, scores,
            stops, MACs and time; read by ``tools/analysis``.
        warmup: Batches at the start whose time does not count.
        collect_device: ``cpu`` or ``gpu``, see mmengine's ``BaseMetric``.
        prefix: Put before the names of the figures.

    Raises:
        ValueError: An option is out of range.
    """

    default_prefix = 'cost'

    def __init__(
        self,
        num_places: int | None = None,
        out_file: str | None = None,
        warmup: int = 1,
        collect_device: Literal['cpu', 'gpu'] = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        if num_places is not None and num_places < 1:
            raise ValueError(f'expected num_places >= 1, got {num_places}')
        if warmup < 0:
            raise ValueError(f'expected warmup >= 0, got {warmup}')
        self.num_places = num_places
        self.out_file = out_file
        self.warmup = warmup
        self._batches = 0
        self._counted = np.zeros(2)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Read time, MACs and stops of a batch.

        Raises:
            RuntimeError: Nothing tells the MACs.
            ValueError: ``sof_stops`` does not fit.
        """
        seconds = self.stopwatch.stop() if self.stopwatch else None
        if self._batches < self.warmup:
            seconds = None
        self._batches += 1
        macs, dense = self._read_macs(data_samples)
        for sample, spent in zip(data_samples, macs, strict=True):
            if sample.get(BROKEN):
                continue
            scores = read_scores(sample)
            stops = self._read_stops(data_batch, sample, data_samples)
            result = dict(
                video=video_name(sample),
                labels=list(read_labels(sample, len(scores))),
                scores=scores.tolist(),
                stops=stops,
                exit=int(sample.get('sof_exit', len(stops))),
                macs=spent,
                dense_macs=dense,
                batch_size=len(data_samples),
            )
            if seconds is not None:
                result['ms'] = 1000 * seconds / len(data_samples)
            for key in ('frame_inds', 'total_frames'):
                if sample.get(key) is not None:
                    result[key] = np.asarray(sample[key]).tolist()
            self.results.append(result)

    def evaluate(self, size: int) -> dict:
        """Compute the figures of all videos, on rank 0 for every rank."""
        self._batches, self._counted = 0, np.zeros(2)
        return super().evaluate(size)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Compute the means over the videos.

        Raises:
            RuntimeError: There is no video.
        """
        if not results:
            raise RuntimeError(
                'expected at least one video that can be decoded, got none'
            )
        if any(len(r['stops']) != len(results[0]['stops']) for r in results):
            raise ValueError(
                'expected as many frames of every video, got '
                f'{sorted({len(r["stops"]) for r in results})}; sample a '
                'fixed number in the test pipeline'
            )
        spent = np.array([result['macs'] for result in results]) / GIGA
        frames = np.array([len(result['stops']) for result in results])
        figures = dict(
            gmac_per_video=float(spent.mean()),
            gmac_per_frame=float((spent / frames).mean()),
            **_against_dense(spent, results),
            **self._time(results),
            **self._usage(np.array([result['stops'] for result in results])),
            videos=float(len(results)),
        )
        if self.out_file is not None:
            path = Path(self.out_file)
            path.parent.mkdir(parents=True, exist_ok=True)
            report = dict(
                figures=figures,
                classes=list((self.dataset_meta or {}).get('classes', ())),
                num_places=self.num_places,
                videos=results,
            )
            path.write_text(json.dumps(report))
        return figures

    def _read_macs(
        self, data_samples: Sequence[dict]
    ) -> tuple[list[float], float | None]:
        """Read the MACs of each video of a batch, and of a dense one.

        The latter is None if no ledger tells it.
        """
        share = dense = None
        if self.ledger is not None:
            total = self.ledger.total()
            counted = np.array([int(total.spent), int(total.dense)])
            new = (counted - self._counted) / len(data_samples)
            share, dense = new.tolist()
            self._counted = counted
        macs = [sample.get('sof_macs', share) for sample in data_samples]
        if None in macs:
            raise RuntimeError(
                'expected `sof_macs` in the data samples or a ledger, got '
                "neither; add custom_hooks=[dict(type='mmskip.VideoHook')]"
            )
        return [float(value) for value in macs], dense

    def _read_stops(
        self, data_batch: Any, sample: dict, data_samples: Sequence[dict]
    ) -> list[int]:
        """Read the place where each frame of a video stopped."""
        places = self.num_places or 0
        stops = sample.get('sof_stops')
        if stops is None:
            count = _count_frames(data_batch, data_samples, sample)
            return [places] * count
        stops = np.asarray(stops).tolist()
        if self.num_places is None or not all(
            UNSEEN <= stop <= places for stop in stops
        ):
            raise ValueError(
                f'expected stops -1..num_places={self.num_places} of '
                f'{video_name(sample)}, got {stops}; set num_places of '
                'VideoCost to the number of policies'
            )
        return stops

    def _time(self, results: list[dict]) -> dict[str, float]:
        """Return the mean and median time of the videos that were timed."""
        times = [result['ms'] for result in results if 'ms' in result]
        if not times:
            return {}
        sizes = {result['batch_size'] for result in results}
        if sizes != {1}:
            warnings.warn(
                f'times per video are of batches of up to {max(sizes)} '
                'videos; the runtime per video of publications is that of '
                'batch size 1: set test_dataloader.batch_size=1',
                stacklevel=2,
            )
        return dict(
            ms_per_video=float(np.mean(times)),
            median_ms=float(np.median(times)),
        )

    def _usage(self, stops: np.ndarray) -> dict[str, float]:
        """Return the percent of frames at each place, of stops (videos, T)."""
        places = self.num_places or 0
        figures = dict(used=100 * float((stops == places).mean()))
        for place in range(places):
            share = float((stops == place).mean())
            figures[f'stop_{place + 1}'] = 100 * share
        if places:
            figures['unseen'] = 100 * float((stops == UNSEEN).mean())
        return figures


def read_groups(path: str | PathLike) -> dict[str, str]:
    """Read which group each video belongs to.

    Args:
        path: JSON file with an object, group by video: the name of its file
            without folder and suffix.

    Raises:
        InputError: The file is something else.
    """
    groups = read_json(path, 'a JSON file of groups')
    if not isinstance(groups, dict) or not all(
        isinstance(group, str) for group in groups.values()
    ):
        raise InputError(
            f'{path}: expected an object {{"video": "group", ...}}, got '
            'something else'
        )
    return groups


def group_of(video: str | None, groups: Mapping[str, str]) -> str:
    """Return the group of a video.

    Args:
        video: Its name or its file.
        groups: See :func:`read_groups`.

    Raises:
        ValueError: It has none.
    """
    name = Path(video or '').stem
    if name not in groups:
        raise ValueError(
            f'expected the group of every video, got none of {video}; is '
            'the list of groups that of this data set, and "filename" in '
            'meta_keys of PackActionInputs?'
        )
    return groups[name]


def by_group(
    results: Sequence[Mapping],
) -> Iterator[tuple[str, list[Mapping]]]:
    """Yield the results with the same ``group``, in alphabetical order.

    Results without one are left out.
    """
    names = sorted({r['group'] for r in results if r.get('group')})
    for name in names:
        yield name, [r for r in results if r.get('group') == name]


def video_name(sample: dict) -> str | None:
    """Return the video of a sample: ``video_id``, else its file or folder."""
    for key in ('video_id', 'filename', 'frame_dir'):
        if sample.get(key) is not None:
            return str(sample[key])
    return None


def read_scores(sample: dict) -> np.ndarray:
    """Read the scores of a video, float64, shape (classes,).

    Raises:
        TypeError: There is no one vector of scores.
        ValueError: A score is not finite.
    """
    return _read(
        sample, 1, '(classes,)', 'set average_clips in the head of the model'
    )


def read_view_scores(sample: dict) -> np.ndarray:
    """Read the scores of every view of a video, float64 (views, classes).

    Raises:
        TypeError: There are no scores of views.
        ValueError: A score is not finite.
    """
    return _read(
        sample,
        2,
        '(views, classes)',
        'set average_clips=None in the head of the model',
    )


def read_labels(sample: dict, num_classes: int) -> tuple[int, ...]:
    """Read the indices of the classes that a video shows.

    mmaction2 stores a class index as an integer tensor, and the labels of
    data sets with ``multi_class=True`` as a float vector of zeros and ones.

    Raises:
        ValueError: A label is not one of the classes of the scores.
    """
    truth: Any = torch.as_tensor(sample['gt_label'])
    if truth.is_floating_point():
        if truth.numel() != num_classes:
            raise ValueError(
                f'expected labels of the {num_classes} classes that the '
                f'model scores, got {truth.numel()}; set num_classes of the '
                'data set and of the head to the same number'
            )
        return tuple(truth.flatten().nonzero()[:, 0].tolist())
    labels = tuple(sorted(set(truth.flatten().tolist())))
    if labels and not 0 <= labels[0] <= labels[-1] < num_classes:
        raise ValueError(
            f'expected labels 0..{num_classes - 1}, as the model scores '
            f'{num_classes} classes, got {list(labels)} for '
            f'{video_name(sample)}; set num_classes of the head'
        )
    return labels


def _read(sample: dict, dims: int, expected: str, advice: str) -> np.ndarray:
    scores = sample.get('pred_score')
    if not isinstance(scores, torch.Tensor) or scores.ndim != dims:
        shape = tuple(getattr(scores, 'shape', ())) or type(scores).__name__
        raise TypeError(
            f'expected `pred_score` of shape {expected} in every data '
            f'sample, got {shape}; {advice}'
        )
    values = scores.detach().double().cpu().numpy()
    if not np.isfinite(values).all():
        raise ValueError(
            f'expected finite scores, got NaN or infinity for '
            f'{video_name(sample)}; training has diverged'
        )
    return values


def _against_dense(spent: np.ndarray, results: list[dict]) -> dict[str, float]:
    """Return the cost of a model that leaves nothing out, if known."""
    if any(result['dense_macs'] is None for result in results):
        return {}
    dense = np.mean([result['dense_macs'] for result in results]) / GIGA
    return dict(
        dense_gmac_per_video=float(dense),
        reduction=float(dense / spent.mean()),
    )


def _count_frames(
    data_batch: Any, data_samples: Sequence[dict], sample: dict
) -> int:
    """Count the frames T of a video: the first dimension of its input."""
    index = next(i for i, other in enumerate(data_samples) if other is sample)
    return len(data_batch['inputs'][index])

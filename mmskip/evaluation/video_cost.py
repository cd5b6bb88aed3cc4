"""What recognising a video costs, and what became of each frame."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from mmengine.evaluator import BaseMetric

from mmskip.registry import METRICS
from mmskip.runtime import LedgerReader, StopwatchReader

from .video_results import BROKEN, read_labels, read_scores, video_name

GIGA = 1e9
# `sof_stops` of a frame that was never looked at.
UNSEEN = -1


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
        """Figures of all videos, on rank 0 for every rank."""
        self._batches, self._counted = 0, np.zeros(2)
        return super().evaluate(size)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Means over the videos.

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
        """MACs of each video of a batch, and of one if nothing were left out.

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
        """Place where each frame of a video stopped."""
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
        """Mean and median time of the videos that were timed."""
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
        """Percent of the frames at each place, stops of shape (videos, T)."""
        places = self.num_places or 0
        figures = dict(used=100 * float((stops == places).mean()))
        for place in range(places):
            share = float((stops == place).mean())
            figures[f'stop_{place + 1}'] = 100 * share
        if places:
            figures['unseen'] = 100 * float((stops == UNSEEN).mean())
        return figures


def _against_dense(spent: np.ndarray, results: list[dict]) -> dict[str, float]:
    """Cost of a model that leaves nothing out, if it is known."""
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
    """Frames T of a video: the first dimension of its input."""
    index = next(i for i, other in enumerate(data_samples) if other is sample)
    return len(data_batch['inputs'][index])

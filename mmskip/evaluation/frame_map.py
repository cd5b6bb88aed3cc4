"""The accuracy of localising actions in frames."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from mmdet.evaluation.functional import bbox_overlaps, eval_map
from mmengine.evaluator import BaseMetric

from mmskip.options import check_least
from mmskip.registry import METRICS

LABELS = ('labels', 'gt_labels')


@METRICS.register_module()
class FrameMAP(BaseMetric):
    """Frame-mAP, recall and classification accuracy at one IoU threshold.

    In percent, as YOWO and VA-RED^2 (Table 4.9) report them for J-HMDB:

    - ``mAP``: mean over the classes that occur of the area below the
      precision-recall curve over all frames (mmdet's ``eval_map``);
    - ``recall``: share of the boxes of the ground truth that a detection
      hits, whatever its class;
    - ``classification``: of those that are hit, the share whose detection
      of highest IoU (of several equal ones, that of the highest score) has
      the right class. 0 if none is hit.

    All of it looks at detections with a score from ``score_thr`` only. In
    YOWO's code that is objectness, and a box has one class; scores of
    mmdet's heads are objectness times class probability, and boxes have one
    class if the NMS has ``class_agnostic=True``, which is meant here.

    Args:
        iou_thr: IoU from which a detection hits. Defaults to 0.5.
        score_thr: Least score of a detection. Defaults to 0.005, YOWO's.
        per_class: Report the AP of every class, as ``AP_<name>``.
        nproc: Processes to match with. Defaults to 1.
        collect_device: ``cpu`` or ``gpu``, see mmengine's ``BaseMetric``.
        prefix: Put before the names of the figures.

    Raises:
        ValueError: A threshold is out of range.
    """

    default_prefix = 'frame'

    def __init__(
        self,
        iou_thr: float = 0.5,
        score_thr: float = 0.005,
        per_class: bool = False,
        nproc: int = 1,
        collect_device: Literal['cpu', 'gpu'] = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        if not 0 < iou_thr <= 1 or not 0 <= score_thr <= 1:
            raise ValueError(
                'expected iou_thr in (0, 1] and score_thr in [0, 1], got '
                f'{iou_thr!r} and {score_thr!r}'
            )
        self.iou_thr = iou_thr
        self.score_thr = score_thr
        self.per_class = per_class
        check_least(1, nproc=nproc)
        self.nproc = nproc

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep boxes of a batch, in pixels of the original frames.

        Raises:
            KeyError: A sample has no detections.
            ValueError: A label of the model is no class of the data.
        """
        names = (self.dataset_meta or {}).get('classes', ())
        for sample in data_samples:
            if 'pred_instances' not in sample:
                raise KeyError(
                    'expected samples with pred_instances, got '
                    f'{sorted(sample)}; FrameMAP measures detectors'
                )
            found, truth = sample['pred_instances'], sample['gt_instances']
            factor = np.tile(sample.get('scale_factor', (1.0, 1.0)), 2)
            # Best first, so that of equal IoUs the first is that of the
            # highest score.
            order = np.argsort(-_array(found['scores']), kind='stable')
            kept = order[_array(found['scores'])[order] >= self.score_thr]
            result = dict(
                boxes=_array(found['bboxes'])[kept],
                scores=_array(found['scores'])[kept],
                labels=_array(found['labels'])[kept],
                gt_boxes=_array(truth['bboxes']) / factor,
                gt_labels=_array(truth['labels']),
            )
            for key in LABELS:
                if names and max(result[key], default=0) >= len(names):
                    raise ValueError(
                        f'expected labels of {len(names)} classes, got '
                        f'{max(result[key])}; set num_classes of the head '
                        'to the number of classes of the data'
                    )
            self.results.append(result)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Compute the figures of all frames."""
        names = (self.dataset_meta or {}).get('classes')
        seen = (max(r[k], default=0) for r in results for k in LABELS)
        count = len(names) if names else int(max(seen, default=0)) + 1
        average, classes = eval_map(
            [_by_class(result, count) for result in results],
            [
                dict(bboxes=r['gt_boxes'], labels=r['gt_labels'])
                for r in results
            ],
            iou_thr=self.iou_thr,
            logger='silent',
            nproc=self.nproc,
        )
        best = np.concatenate([self._best_labels(r) for r in results])
        truth = np.concatenate([r['gt_labels'] for r in results])
        hit = best >= 0
        figures = dict(
            mAP=100 * float(average),
            recall=100 * float(hit.mean()) if len(hit) else 0.0,
            classification=100 * float((best == truth)[hit].mean())
            if hit.any()
            else 0.0,
        )
        if self.per_class:
            for label, found in enumerate(classes):
                if found['num_gts']:
                    name = names[label] if names else label
                    figures[f'AP_{name}'] = 100 * float(found['ap'])
        return figures

    def _best_labels(self, result: dict) -> np.ndarray:
        """Label of the detection that hits each box of a frame, or -1."""
        best = np.full(len(result['gt_boxes']), -1)
        if len(result['boxes']):
            overlaps = bbox_overlaps(result['gt_boxes'], result['boxes'])
            hit = overlaps.max(1) >= self.iou_thr
            found = result['labels'][overlaps.argmax(1)]
            best = np.where(hit, found, best)
        return best


def _array(tensor: Any) -> np.ndarray:
    return tensor.cpu().numpy()


def _by_class(result: dict, count: int) -> list[np.ndarray]:
    """Return the detections of a frame as ``eval_map`` takes them."""
    table = np.column_stack([result['boxes'], result['scores']])
    return [table[result['labels'] == label] for label in range(count)]

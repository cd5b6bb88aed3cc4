"""Agreement of a skipping model with the dense one, where there are no labels.

Losses compare raw outputs, for the dense model to teach; they are relative to
the dense outputs and are taken clip by clip, so that one weight of the gates'
cost suits all models, and two processes learn what one does with twice the
clips. :func:`agreement` compares predictions, with what the dense model is
sure of as the truth. Symbols: B clips, T frames of each; outputs are folded,
(B*T, ...).
"""

import contextlib
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mmskip.registry import DISTILL_LOSSES

from .thresholds import tensors_of

Boxes = list[dict[str, Any]]
#: Score from which a dense detection is taken for the truth.
SURE = 0.3
#: Distance within which a keypoint is right, as a share of its person's box.
NEAR = 0.05


#: Of the sum of squared scores: what one object that is surely there adds.
ONE_OBJECT = 1.0
#: Below this score the dense model's boxes are of nothing.
LEAST_SCORE = 0.05


class DistillLoss(Protocol):
    """Compares the raw outputs of two runs of a model."""

    def __call__(self, outputs: Any, targets: Any, clips: int) -> Tensor:
        """Compare the outputs of a forward in tensor mode.

        Args:
            outputs: Of the skipping model.
            targets: The same of the dense model.
            clips: B.

        Returns:
            (B,), 0 where they agree.
        """


@DISTILL_LOSSES.register_module()
class FeatureLoss:
    """Takes the squared error of every tensor, as a share of its power.

    It suits all outputs, and does not know what in them matters.
    """

    def __call__(self, outputs: Any, targets: Any, clips: int) -> Tensor:
        """Compare two outputs, see :class:`DistillLoss`."""
        pairs = zip(tensors_of(outputs), tensors_of(targets), strict=True)
        shares = [
            _by_clip((y - z).square(), clips)
            / _by_clip(z.square(), clips).clamp_min(1e-12)
            for y, z in pairs
        ]
        return torch.stack(shares).mean(0)


@DISTILL_LOSSES.register_module()
class DenseDetectorLoss:
    """Compares scores everywhere, and boxes where there is something.

    For heads that give, for each level of a pyramid, class scores that go
    through a sigmoid, boxes and, in some, a further score of the place
    (objectness, centerness) by which the first are multiplied: RetinaNet,
    FCOS, ATSS, YOLOX, RTMDet and their like.

    Args:
        num_priors: Boxes at each place.
    """

    def __init__(self, num_priors: int = 1) -> None:
        self.num_priors = num_priors

    def __call__(self, outputs: Any, targets: Any, clips: int) -> Tensor:
        """Compare two outputs, see :class:`DistillLoss`."""
        wrong, power, off, size = 0, ONE_OBJECT, 0, 1e-6
        found = zip(*outputs, strict=True)
        for level, dense in zip(
            found, zip(*targets, strict=True), strict=True
        ):
            scores, sure = self._scores(level), self._scores(dense)
            wrong = wrong + _by_clip((scores - sure).square(), clips)
            power = power + _by_clip(sure.square(), clips)
            weight = sure.amax(2, keepdim=True)
            weight = torch.where(weight > LEAST_SCORE, weight, 0)
            box, other = self._split(level[1]), self._split(dense[1])
            off = off + _by_clip(weight * (box - other).abs(), clips)
            size = size + _by_clip(weight * other.abs(), clips)
        return wrong / power + off / size

    def _scores(self, level: tuple[Tensor, ...]) -> Tensor:
        """Compute the scores of a level, (N, priors, classes, H, W)."""
        classes, _, *places = level
        scores = self._split(classes.sigmoid())
        for place in places:
            scores = scores * self._split(place.sigmoid())
        return scores

    def _split(self, channels: Tensor) -> Tensor:
        return channels.unflatten(1, (self.num_priors, -1))


@DISTILL_LOSSES.register_module()
class LogitsLoss:
    """Takes the divergence of distributions, of actions or of coordinates.

    For the logits of recognizers and those of SimCC (RTMPose), which are
    over the last dimension.
    """

    def __call__(self, outputs: Any, targets: Any, clips: int) -> Tensor:
        """Compare two outputs, see :class:`DistillLoss`."""
        pairs = list(
            zip(tensors_of(outputs), tensors_of(targets), strict=True)
        )
        losses = []
        for logits, dense in pairs:
            known = dense.softmax(-1)
            gap = dense.log_softmax(-1) - logits.log_softmax(-1)
            divergence = (known * gap).sum(-1)
            losses.append(divergence.reshape(clips, -1).mean(1))
        return torch.stack(losses).mean(0)


def loss_for(model: nn.Module, output: Any) -> DistillLoss:
    """Choose the loss for a model by what it gives.

    Args:
        model: A model of mmdet, mmpose or mmaction2.
        output: Of its forward in tensor mode.

    Returns:
        :class:`FeatureLoss` for heatmaps, and for all that is not known.
    """
    if _is_dense_detector(model, output):
        head = model.bbox_head
        priors = getattr(head, 'num_base_priors', 1)
        return DenseDetectorLoss(priors)
    if hasattr(model, 'head') or hasattr(model, 'cls_head'):
        sizes = {tensor.dim() for tensor in tensors_of(output)}
        if hasattr(model, 'cls_head') or sizes == {3}:
            return LogitsLoss()
    return FeatureLoss()


def _is_dense_detector(model: nn.Module, output: Any) -> bool:
    head = getattr(model, 'bbox_head', None)
    if head is None or not getattr(head, 'use_sigmoid_cls', False):
        return False
    if not isinstance(output, tuple) or len(output) not in (2, 3):
        return False
    return all(
        isinstance(levels, (list, tuple))
        and all(isinstance(x, Tensor) and x.dim() == 4 for x in levels)
        for levels in output
    )


def _by_clip(values: Tensor, clips: int) -> Tensor:
    return values.reshape(clips, -1).sum(1)


def boxes_of(prediction: Any, frame: int) -> Boxes:
    """Write detections in COCO's form of results.

    Args:
        prediction: A data sample of mmdet with ``pred_instances``.
        frame: Number of the frame, the ``image_id``.

    Returns:
        Dicts of ``image_id``, ``category_id`` (the label), ``bbox`` (x, y,
        width, height in pixels) and ``score``.
    """
    found = prediction.pred_instances
    return [
        dict(
            image_id=frame,
            category_id=label,
            bbox=[x1, y1, x2 - x1, y2 - y1],
            score=score,
        )
        for (x1, y1, x2, y2), score, label in zip(
            found.bboxes.tolist(),
            found.scores.tolist(),
            found.labels.tolist(),
            strict=True,
        )
    ]


def sure_boxes(boxes: Iterable[dict[str, Any]]) -> Boxes:
    """Choose the detections that a dense model is sure of."""
    return [box for box in boxes if box['score'] > SURE]


def average_precisions(
    truth: Sequence[dict[str, Any]],
    found: Sequence[dict[str, Any]],
    frames: Iterable[int],
) -> tuple[float, float]:
    """Compute COCO's AP and AP50, in percent, means over the truth's classes.

    Args:
        truth: Boxes as those of :func:`boxes_of`; scores are not read.
        found: The same, with scores.
        frames: Numbers of the frames to look at.

    Returns:
        AP and AP50; not numbers if there is nothing to find.
    """
    # Pose estimators do without it.
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    frames = list(frames)
    labels = sorted({box['category_id'] for box in truth})
    found = [box for box in found if box['category_id'] in labels]
    if not labels or not found:
        return (0.0, 0.0) if labels else (math.nan, math.nan)
    boxes = [
        dict(box, id=i, iscrowd=0, area=box['bbox'][2] * box['bbox'][3])
        for i, box in enumerate(truth, 1)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = dict(
            info={},
            images=[dict(id=frame) for frame in frames],
            categories=[dict(id=label) for label in labels],
            annotations=[box for box in boxes if box['image_id'] in frames],
        )
        known.createIndex()
        scores = COCOeval(known, known.loadRes(found), 'bbox')
        scores.evaluate()
        scores.accumulate()
        scores.summarize()
    return 100 * float(scores.stats[0]), 100 * float(scores.stats[1])


def keypoints_near(truth: Sequence[Any], found: Sequence[Any]) -> float:
    """Count the keypoints that stay where the dense model sees them.

    Args:
        truth: Data samples of mmpose, of the dense model.
        found: Of the same frames, of the other one.

    Returns:
        Percent of the keypoints that the dense model is sure of; not a
        number if it is sure of none.
    """
    near = total = 0
    for dense, other in zip(truth, found, strict=True):
        known, seen = dense.pred_instances, other.pred_instances
        width, height = np.ptp(known.bboxes.reshape(-1, 2, 2), 1).T
        reach = NEAR * np.maximum(width, height)[:, None]
        away = np.linalg.norm(known.keypoints - seen.keypoints, axis=-1)
        sure = known.keypoint_scores > SURE
        near += int((sure & (away <= reach)).sum())
        total += int(sure.sum())
    return 100 * near / total if total else math.nan


def agreement(truth: Sequence[Any], found: Sequence[Any]) -> tuple[str, float]:
    """Tell how far predictions agree with those of the dense model.

    Args:
        truth: Data samples of consecutive frames, of the dense model.
        found: Of the same frames, of the other one.

    Returns:
        The measure's name and its value in percent: AP50 against the dense
        boxes with scores above 0.3, the share of keypoints within a
        twentieth of the person's box, or that of clips whose best class is
        the dense one.
    """
    if hasattr(truth[0], 'pred_score'):
        same = [
            int(dense.pred_score.argmax() == other.pred_score.argmax())
            for dense, other in zip(truth, found, strict=True)
        ]
        return 'top-1', 100 * sum(same) / len(same)
    if hasattr(truth[0].pred_instances, 'keypoints'):
        return 'keypoints', keypoints_near(truth, found)
    dense, other = (
        [box for i, sample in enumerate(some) for box in boxes_of(sample, i)]
        for some in (truth, found)
    )
    _, found_50 = average_precisions(
        sure_boxes(dense), other, range(len(truth))
    )
    return 'AP50', found_50

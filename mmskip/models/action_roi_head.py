"""mmaction2's head for boxes of persons, where each does one thing."""

from typing import Any

import torch
import torch.nn.functional as F
from mmaction.models.roi_heads import AVARoIHead
from mmengine.structures import InstanceData
from torch import Tensor

from mmskip.registry import MODELS


@MODELS.register_module()
class ActionRoIHead(AVARoIHead):
    """Tells the action of each proposed box, as data like J-HMDB label it.

    It is mmaction2's ``AVARoIHead``, with its ``SingleRoIExtractor3D`` and
    ``BBoxHeadAVA``, in mmdet's ``FastRCNN``. That one is made for AVA: its
    labels are rows of ones and zeros, its boxes shares of the frame, its
    results all classes of a box, and it tests one clip at a time. Here
    labels are integers, boxes are in pixels of the original frame, a box has
    its best class only, as with YOWO, and a batch may have any size, so that
    ``mmskip.FrameMAP`` measures both.

    Boxes are those proposed, see ``mmskip.LoadActorBoxes``; nothing refines
    them. A score is the probability of the class for that box.

    Raises:
        ValueError: ``bbox_head`` is one of several actions at a time, or of
            a background.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        head = self.bbox_head
        if head.multilabel or head.background_class:
            raise ValueError(
                'expected bbox_head with multilabel=False and '
                f'background_class=False, got {head.multilabel} and '
                f'{head.background_class}'
            )

    def loss(
        self,
        x: Tensor | tuple[Tensor, ...],
        rpn_results_list: list[InstanceData],
        data_samples: list,
        **options: Any,
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch of clips.

        Args:
            x: Features (B, C, T, H, W), or several levels.
            rpn_results_list: Proposals of each clip, with ``bboxes``.
            data_samples: With ``gt_instances``, of integer labels.
            **options: Passed on to mmaction2's head.
        """
        # What is asked for by the assigner, on copies.
        samples = [sample.new() for sample in data_samples]
        classes = self.bbox_head.num_classes
        for sample in samples:
            truth = sample.gt_instances
            labels = F.one_hot(truth.labels, classes).float()
            sample.gt_instances = InstanceData(
                bboxes=truth.bboxes, labels=labels
            )
        proposals = [proposed.new() for proposed in rpn_results_list]
        return super().loss(x, proposals, samples, **options)

    def predict(
        self,
        x: Tensor | tuple[Tensor, ...],
        rpn_results_list: list[InstanceData],
        data_samples: list,
        **options: Any,
    ) -> list[InstanceData]:
        """Predict the action of each box.

        Args:
            x: Features of the clips, see :meth:`loss`.
            rpn_results_list: Proposals, see :meth:`loss`.
            data_samples: With ``img_shape`` and, if it was resized,
                ``scale_factor`` (width, height) in their meta info.
            **options: Not used here.

        Returns:
            Of each clip ``bboxes`` (n, 4) in pixels of the original frame,
            ``scores`` and ``labels`` (n,).
        """
        if not any(map(len, rpn_results_list)):  # the parent cannot
            return [_nobody(proposed.bboxes) for proposed in rpn_results_list]
        metas = [sample.metainfo for sample in data_samples]
        results = self.predict_bbox(x, metas, rpn_results_list, self.test_cfg)
        for found, meta in zip(results, metas, strict=True):
            height, width = meta['img_shape']
            factor = meta.get('scale_factor', (1.0, 1.0))
            size = width / factor[0], height / factor[1]
            found.bboxes = found.bboxes * found.bboxes.new_tensor(size * 2)
            found.scores, found.labels = found.scores.max(-1)
        return results


def _nobody(bboxes: Tensor) -> InstanceData:
    """Return the results of no boxes, (0, 4)."""
    labels = bboxes.new_zeros(0, dtype=torch.long)
    return InstanceData(
        bboxes=bboxes, scores=bboxes.new_zeros(0), labels=labels
    )

"""The test pipeline of a config, for frames in memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope
from torch import nn

from .errors import UserError


class FramePipeline:
    """The config's own test pipeline, built once, for frames in memory.

    Detectors see the whole frame. Top-down pose estimators see one box that
    stays where it is over the whole stream, because a Skip-Convolution
    compares each crop with the one before.

    Args:
        model: A detector or pose estimator from :func:`init_model`.
        bbox: The box of a pose estimator, (x1, y1, x2, y2) in pixels of the
            first frame; ``None`` takes the whole frame. It follows when the
            size of the frames changes.

    Raises:
        ValueError: The model has no ``cfg``.
        UserError: The model takes clips instead of frames, the config has
            no test pipeline, or ``bbox`` is empty or given to a detector.
    """

    def __init__(
        self, model: nn.Module, bbox: Sequence[float] | None = None
    ) -> None:
        cfg = getattr(model, 'cfg', None)
        if cfg is None:
            raise ValueError(
                f'expected a model with its config as `cfg`, got a bare '
                f'{type(model).__name__}; build it with '
                'mmskip.apis.init_model()'
            )
        self._scope = cfg.get('default_scope') or 'mmengine'
        if self._scope == 'mmaction':
            raise UserError(
                'expected a detector or a pose estimator, got a model of '
                'mmaction, which takes clips instead of frames'
            )
        self.is_pose = self._scope == 'mmpose'
        self._bbox = self._check_bbox(bbox)
        self._meta = dict(model.dataset_meta or {}) if self.is_pose else {}
        self._first_shape: tuple[int, int] | None = None
        self._last_shape: tuple[int, int] | None = None
        self._videos = 0
        with DefaultScope.overwrite_default_scope(self._scope):
            self._transform = Compose(_frame_transforms(cfg, self.is_pose))

    def __call__(
        self,
        image: np.ndarray,
        index: int = 0,
        bbox: np.ndarray | None = None,
    ) -> dict[str, Any]:
        """Prepare a frame.

        Args:
            image: (H, W, 3) uint8, BGR.
            index: Number of the frame, becomes ``img_id``.
            bbox: Box of a pose estimator in this frame, instead of that of
                the whole stream.

        Returns:
            ``inputs`` and ``data_samples``, lists of length one. The sample
            carries ``frame_id`` and ``video_id``, which counts changes of
            the frame's size.
        """
        self._follow(image.shape[:2])
        data: dict[str, Any] = dict(img=image, img_id=index)
        if self.is_pose:
            data.update(self._meta)
            data['bbox'] = self._box_of(image)
            if bbox is not None:
                data['bbox'] = np.asarray(bbox, np.float32)[None]
            data['bbox_score'] = np.ones(1, dtype=np.float32)
        packed = self._transform(data)
        packed['data_samples'].set_metainfo(
            dict(frame_id=index, video_id=self._videos)
        )
        return pseudo_collate([packed])

    def _follow(self, shape: tuple[int, int]) -> None:
        if self._first_shape is None:
            self._first_shape = shape
        elif shape != self._last_shape:
            self._videos += 1
        self._last_shape = shape

    def _check_bbox(self, bbox: Sequence[float] | None) -> np.ndarray | None:
        if bbox is None:
            return None
        if not self.is_pose:
            raise UserError(
                'a bbox is for top-down pose estimators; a detector takes '
                'the whole frame'
            )
        box = np.asarray(bbox, dtype=np.float32)
        if box.shape != (4,) or not (box[2:] > box[:2]).all():
            raise UserError(
                f'expected a bbox x1 y1 x2 y2 with x1 < x2 and y1 < y2, got '
                f'{" ".join(map(str, bbox))}'
            )
        return box

    def _box_of(self, image: np.ndarray) -> np.ndarray:
        """Scale the (1, 4) box along with the frame since the first one."""
        height, width = image.shape[:2]
        if self._bbox is None:
            return np.array([[0, 0, width, height]], dtype=np.float32)
        scale_x = width / self._first_shape[1]
        scale_y = height / self._first_shape[0]
        scale = np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
        return (self._bbox * scale)[None]


def _frame_transforms(cfg: Config, is_pose: bool) -> list[ConfigDict]:
    """Return the test pipeline for frames, without annotations.

    mmpose's ``LoadImage`` takes a frame as it is; mmdet has a loader of its
    own for that.
    """
    dataset = (cfg.get('test_dataloader') or {}).get('dataset')
    while dataset and 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    if not dataset or not dataset.get('pipeline'):
        raise UserError(
            'the config has no test_dataloader.dataset.pipeline, which says '
            'how to prepare a frame'
        )
    transforms = []
    for step in dataset['pipeline']:
        name = step['type']
        name = name if isinstance(name, str) else name.__name__
        name = name.rpartition('.')[2]
        if not is_pose and name == 'LoadImageFromFile':
            step = ConfigDict(
                type='mmdet.LoadImageFromNDArray',
                to_float32=step.get('to_float32', False),
            )
        elif name.startswith('Load') and 'Annotation' in name:
            continue
        transforms.append(step)
    return transforms

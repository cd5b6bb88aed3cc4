"""Drawing predictions with the visualizer of the model's own host."""

import warnings
from typing import Any

import numpy as np
from mmengine.registry import VISUALIZERS
from mmengine.structures import BaseDataElement
from mmengine.visualization import BaseVisBackend
from torch import nn

DEFAULT_VISUALIZERS = {
    'mmdet': 'DetLocalVisualizer',
    'mmpose': 'PoseLocalVisualizer',
}


class _LastImage(BaseVisBackend):
    """Keeps what a visualizer drew last; asking it would draw again."""

    def __init__(self) -> None:
        self.image: np.ndarray | None = None

    @property
    def experiment(self) -> '_LastImage':
        return self

    def _init_env(self) -> None:
        pass

    def add_image(self, name: str, image: np.ndarray, step: int = 0) -> None:
        self.image = image


class PredictionDrawer:
    """Draws what a detector or pose estimator found.

    Args:
        model: With ``cfg`` and ``dataset_meta``, see
            :func:`mmskip.apis.init_model`. The visualizer is the one of its
            config, else the host's usual one.
        score_thr: Boxes or keypoints below this score are not drawn.

    Raises:
        ValueError: The model's host is neither mmdet nor mmpose.
    """

    def __init__(self, model: nn.Module, score_thr: float = 0.3) -> None:
        self._scope = model.cfg.get('default_scope')
        if self._scope not in DEFAULT_VISUALIZERS:
            raise ValueError(
                'expected a model whose default_scope is one of '
                f'{", ".join(DEFAULT_VISUALIZERS)}, got {self._scope!r}'
            )
        self._score_thr = score_thr
        options = dict(model.cfg.get('visualizer') or {})
        kind = options.pop('type', DEFAULT_VISUALIZERS[self._scope])
        self._last = _LastImage()
        options.update(name=f'mmskip-{id(self)}', vis_backends=self._last)
        options.pop('_scope_', None)
        if isinstance(kind, str):
            # Not built by the registry, which would keep it for good.
            with VISUALIZERS.switch_scope_and_registry(self._scope) as found:
                kind = found.get(kind)
        self._visualizer = kind(**options)
        self._options: dict[str, Any] = dict(draw_gt=False)
        if self._scope == 'mmdet':
            self._visualizer.dataset_meta = model.dataset_meta
            self._options['pred_score_thr'] = score_thr
        else:
            self._visualizer.set_dataset_meta(model.dataset_meta)
            self._options.update(kpt_thr=score_thr, draw_bbox=True)

    def __call__(
        self, image: np.ndarray, prediction: BaseDataElement
    ) -> np.ndarray:
        """Draw on a copy of a frame.

        Args:
            image: (H, W, 3) uint8, BGR.
            prediction: A data sample with ``pred_instances``.

        Returns:
            (H, W, 3) uint8, BGR.
        """
        with warnings.catch_warnings():
            # The hosts warn about each label that sticks out of the image.
            warnings.filterwarnings('ignore', message='.*out of bounds.*')
            self._visualizer.add_datasample(
                'frame', image[..., ::-1], prediction, **self._options
            )
        return np.ascontiguousarray(self._last.image[..., ::-1])

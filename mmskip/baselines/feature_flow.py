"""Deep Feature Flow: features of key frames, moved to the frames between.

Zhu et al., Deep Feature Flow for Video Recognition, CVPR 2017; a baseline of
Skip-Conv (Section 4.1).
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from mmskip.registry import MODELS
from mmskip.skip_conv import WARP_MACS

from .keyframe import KeyFrames, VideoPosition, check_interval, mix_in

PRESETS = {
    'ultrafast': cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    'fast': cv2.DISOPTICAL_FLOW_PRESET_FAST,
    'medium': cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


def to_grey(images: Tensor, preprocessor: nn.Module) -> np.ndarray:
    """Turn a model's inputs back into grey images.

    The plain mean of the channels is taken, whatever their order.

    Args:
        images: Preprocessed images, shape ``(N, C, H, W)``.
        preprocessor: What made them; its ``mean`` and ``std`` are undone.
            Without those, images are taken to lie in 0..255.

    Returns:
        8-bit images, shape ``(N, H, W)``.
    """
    mean = getattr(preprocessor, 'mean', None)
    if mean is not None:
        images = images * preprocessor.std + mean
    grey = images.mean(1).round().clamp(0, 255)
    return grey.to('cpu', torch.uint8).numpy()


def dis_flow(frame: np.ndarray, key: np.ndarray, preset: str) -> Tensor:
    """Find where each pixel of a frame was in the key frame.

    Dense Inverse Search (Kroeger et al., ECCV 2016), OpenCV's.

    Args:
        frame: 8-bit grey image, shape ``(H, W)``.
        key: Another one.
        preset: Key of ``PRESETS``.

    Returns:
        Offsets ``(x, y)`` in pixels from a pixel of ``frame`` to the same
        point in ``key``, shape ``(1, 2, H, W)``.
    """
    # Made anew each time: it is cheap, and the model can be copied.
    search = cv2.DISOpticalFlow_create(PRESETS[preset])
    flow = search.calc(frame, key, None)
    return torch.from_numpy(flow).permute(2, 0, 1)[None]


def warp(features: Tensor, flow: Tensor) -> Tensor:
    """Fetch features from where a flow points (backward warp).

    Bilinear, ``mmskip.skip_conv.WARP_MACS`` per value of the result; what
    lies outside is 0.
    Deep Feature Flow (Zhu et al., CVPR 2017), Section 3, without its scale
    map.

    Args:
        features: Features of the key frame, shape ``(N, C, h, w)``.
        flow: Offsets ``(x, y)`` in pixels of the image, shape
            ``(N, 2, H, W)``. Averaged over the pixels of a feature, and
            scaled by ``w / W`` and ``h / H``.

    Returns:
        Features of the frame, shape ``(N, C, h, w)``.
    """
    size = features.shape[-2:]
    scale = [new / old for new, old in zip(size, flow.shape[-2:], strict=True)]
    flow = F.interpolate(flow, size, mode='area')
    x = torch.arange(size[1], device=flow.device) + flow[:, 0] * scale[1]
    y = torch.arange(size[0], device=flow.device)[:, None]
    y = y + flow[:, 1] * scale[0]
    # Pixel centres to -1..1 from edge to edge.
    grid = torch.stack(((2 * x + 1) / size[1], (2 * y + 1) / size[0]), -1) - 1
    warped = F.grid_sample(features.float(), grid, align_corners=False)
    return warped.to(features.dtype)


@dataclass
class FeatureMemory(VideoPosition):
    """The memory of the video that runs: its key frame and features.

    Attributes:
        grey: The last key frame as an 8-bit grey image, shape ``(H, W)``.
        features: Its features, each of shape ``(1, C, h, w)``.
    """

    grey: np.ndarray | None = None
    features: tuple[Tensor, ...] = ()


class FeatureFlowMixin(KeyFrames):
    """Makes a detector extract features on key frames only.

    Mixed in front of the detector's own class by :func:`use_feature_flow`,
    which tells what it does. Only ``val_step`` and ``test_step`` change;
    training and calls of the model itself are the model's own.

    Attributes:
        flow_preset: Which optical flow is used.
        due_features: While a batch is predicted, the indices of its key
            frames and the memory to fill.
    """

    memory_type = FeatureMemory
    flow_preset: str
    due_features: tuple[list[int], FeatureMemory] | None = None

    def _run_forward(self, data: dict, mode: str) -> Any:
        """Run the model, with features of key frames if it is to predict.

        Every step of an mmengine model passes through here, after the
        preprocessor.

        Args:
            data: ``inputs``, images of shape ``(N, C, H, W)``, consecutive
                frames if N is more than one, and their N ``data_samples``.
            mode: 'loss' or 'predict'.

        Returns:
            What the model returns; for 'predict' a list of N data samples.

        Raises:
            ValueError: A data sample does not tell its video, or the size of
                the inputs changes within a video.
        """
        if mode != 'predict':
            return super()._run_forward(data, mode)
        self.due_features = self._find_keys(data)
        try:
            results = super()._run_forward(data, mode)
            _, self.keyframe_memory = self.due_features
        finally:
            self.due_features = None
        return results

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Extract features of key frames and warp them to the others.

        Args:
            batch_inputs: Images of shape ``(N, C, H, W)``.

        Returns:
            Features of the N images, one tensor per level.
        """
        if self.due_features is None:
            return super().extract_feat(batch_inputs)
        keys, memory = self.due_features
        fresh = self._extract_keys(batch_inputs, keys)
        images = to_grey(batch_inputs, self.data_preprocessor)
        features = []
        for index, grey in enumerate(images):
            if index in fresh:
                memory.grey, memory.features = grey, fresh[index]
                features.append(memory.features)
            else:
                flow = self._estimate_flow(memory, grey)
                flow = flow.to(batch_inputs.device)
                features.append(tuple(warp(f, flow) for f in memory.features))
        if self.mmskip_ledger is not None:
            self._report(len(keys), len(images) - len(keys), memory.features)
        # A copy, so that no head can change what is kept.
        return tuple(map(torch.cat, zip(*features, strict=True)))

    def _extract_keys(
        self, images: Tensor, keys: list[int]
    ) -> dict[int, tuple[Tensor, ...]]:
        """Run backbone and neck on the key frames of a batch.

        Returns:
            By index, features of shape ``(1, C, h, w)`` per level.
        """
        if not keys:
            return {}
        if len(keys) < len(images):
            images = images[keys]
        levels = super().extract_feat(images)
        return {
            key: tuple(level[n : n + 1].detach() for level in levels)
            for n, key in enumerate(keys)
        }

    def _estimate_flow(
        self, memory: FeatureMemory, grey: np.ndarray
    ) -> Tensor:
        """Tell where the pixels of a frame were in the key frame."""
        if grey.shape != memory.grey.shape:
            # Images of a batch are of one size: it began in an earlier one.
            raise ValueError(
                'expected inputs of one size within the video '
                f'{self.keyframe_memory.video!r}, '
                f'got {memory.grey.shape} and then {grey.shape}; '
                'resize or pad the frames of a video alike, and use batches '
                'of 1 if videos differ in size'
            )
        return dis_flow(grey, memory.grey, self.flow_preset)

    def _report(
        self, ran: int, reused: int, features: tuple[Tensor, ...]
    ) -> None:
        """Tell the ledger what was not run, and what was done instead."""
        self.mmskip_ledger.record_reused_part(ran, reused)
        values = sum(level.numel() for level in features)
        self.mmskip_ledger.record_overhead(
            'feature_flow.warp', reused * values * WARP_MACS
        )
        self.mmskip_ledger.record_uncounted('DIS optical flow', reused)


def use_feature_flow(
    model: BaseModel,
    interval: int = 4,
    video_key: str = 'video_id',
    preset: str = 'medium',
) -> BaseModel:
    """Make a detector extract features on every ``interval``-th frame only.

    On key frames all of the model runs, and the features that its head sees
    are kept. On the frames between, backbone and neck do not run: the kept
    features are warped along the optical flow from the frame to the key
    frame, and the head runs on them.

    Deviations from the paper: the flow is OpenCV's Dense Inverse Search on
    the grey inputs, not a learned FlowNet, and there is no scale map;
    nothing is trained through the warping, it is plugged into a detector
    that was trained on images; and the features are those after the neck, of
    several levels.

    In the ledger a frame between costs its head and, as overhead, 4 MACs per
    warped value; 'dense' is of the whole model. The flow is an algorithm
    without a MAC count: ``uncounted()`` tells how often it ran.

    Args:
        model: A single-stage detector. Changed in place: its class becomes a
            subclass of what it was; parameters, hooks and keys of the
            ``state_dict`` stay.
        interval: Distance of the key frames; 1 is the model itself.
            Defaults to 4.
        video_key: Key in the data samples' meta information that tells the
            video, or several keys, see
            :func:`mmskip.datasets.videos.find_video`. Defaults to
            'video_id'.
        preset: 'ultrafast', 'fast' or 'medium': speed or quality of the
            flow. Defaults to 'medium'.

    Returns:
        The very model.

    Raises:
        TypeError: ``model`` is not a single-stage detector.
        ValueError: ``interval`` is not 1, 2, ..., ``preset`` is unknown, or
            the model uses key frames already.
    """
    parts = ('extract_feat', 'bbox_head')
    missing = [p for p in parts if getattr(model, p, None) is None]
    if missing:
        raise TypeError(
            f'expected a single-stage detector with {" and ".join(parts)}, '
            f'got {type(model).__name__} without {" and ".join(missing)}; '
            'the features of two-stage detectors, pose estimators and '
            'recognisers go elsewhere: use a KeyframeModel for those'
        )
    _check_preset(preset)
    model = mix_in(FeatureFlowMixin, model, interval, video_key)
    model.flow_preset = preset
    return model


@MODELS.register_module('FeatureFlowModel')
def build_feature_flow_model(
    arch: str,
    interval: int = 4,
    video_key: str = 'video_id',
    preset: str = 'medium',
    **config,
) -> BaseModel:
    """Build a detector and make it extract features on key frames only.

    In a config, on top of any single-stage detector's::

        model = dict(
            type='mmskip.FeatureFlowModel', arch='RetinaNet', interval=4
        )

    Args:
        arch: What ``type`` was: the model's name, looked up in the current
            scope.
        interval: See :func:`use_feature_flow`. Defaults to 4.
        video_key: See :func:`use_feature_flow`. Defaults to 'video_id'.
        preset: See :func:`use_feature_flow`. Defaults to 'medium'.
        **config: The remaining keys of the model's config.

    Returns:
        The model, with the ``state_dict`` keys of ``arch``.
    """
    check_interval(interval)  # before a model is built
    _check_preset(preset)
    model = MODELS.build(dict(type=arch, **config))
    return use_feature_flow(model, interval, video_key, preset)


def _check_preset(preset: str) -> None:
    if preset not in PRESETS:
        raise ValueError(f'expected preset {sorted(PRESETS)}, got {preset!r}')

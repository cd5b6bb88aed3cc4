"""Optical flow between two frames, and features moved along it."""

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

PRESETS = {
    'ultrafast': cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    'fast': cv2.DISOPTICAL_FLOW_PRESET_FAST,
    'medium': cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}
# Of bilinear interpolation, per value: four neighbours, each weighed.
WARP_MACS = 4


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
    """Where each pixel of a frame was in the key frame.

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

    Bilinear, ``WARP_MACS`` per value of the result; what lies outside is 0.
    Deep Feature Flow (Zhu et al., CVPR 2017), Section 3, without its scale
    map.

    Args:
        features: Of the key frame, shape ``(N, C, h, w)``.
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

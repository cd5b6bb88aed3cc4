"""Frames with predictions and computed pixels drawn over them.

Symbols: H, W size of the frame; h, w size of the network's input, padding
included. A coordinate is continuous: pixel i covers [i, i + 1).
"""

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from mmengine.registry import VISUALIZERS
from mmengine.structures import BaseDataElement
from mmengine.visualization import BaseVisBackend
from torch import Tensor, nn

DEFAULT_VISUALIZERS = {
    'mmdet': 'DetLocalVisualizer',
    'mmpose': 'PoseLocalVisualizer',
}
# (layer name, n-th call in the frame), as StreamState.last_masks() keys.
CallSite = tuple[str, int]
FONT = cv2.FONT_HERSHEY_SIMPLEX
INK = (60, 60, 60)
# Magenta, which few scenes have; as BGR.
TINT_BGR = (180, 30, 230)


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


@dataclass(frozen=True)
class InputMap:
    """A map from pixels of a frame to the network's input.

    ``x_input = scale_x * x_frame + shift_x``, the same for y: a resize, a
    resize with padding, or a crop without rotation.

    Args:
        scale_x: Input pixels per frame pixel, horizontally.
        scale_y: The same vertically.
        shift_x: Where the frame's left edge lies, in input pixels.
        shift_y: Where its upper edge lies.
        height: h, padding included.
        width: w, padding included.
    """

    scale_x: float
    scale_y: float
    shift_x: float
    shift_y: float
    height: int
    width: int

    @classmethod
    def from_metainfo(
        cls, meta: Mapping[str, Any], frame_shape: tuple[int, int]
    ) -> 'InputMap':
        """Read the map from the meta information of a data sample.

        Args:
            meta: From a detection (``scale_factor``, ``batch_input_shape``,
                ``pad_param``) or a pose sample (``input_center``,
                ``input_scale``, ``input_size``). Whatever is missing means
                that the frame fills the whole input.
            frame_shape: (H, W).
        """
        if 'input_center' in meta:
            return cls._from_crop(meta)
        frame_h, frame_w = frame_shape
        height, width = meta.get(
            'batch_input_shape', meta.get('img_shape', frame_shape)
        )[:2]
        scale_x, scale_y = meta.get(
            'scale_factor', (width / frame_w, height / frame_h)
        )[:2]
        # (top, bottom, left, right); mmdet's own Pad only adds at the end.
        pad = meta.get('pad_param')
        pad_top, pad_left = (0, 0) if pad is None else (pad[0], pad[2])
        return cls(
            float(scale_x),
            float(scale_y),
            float(pad_left),
            float(pad_top),
            int(height),
            int(width),
        )

    @classmethod
    def _from_crop(cls, meta: Mapping[str, Any]) -> 'InputMap':
        """Make the map of a top-down crop (mmpose's ``get_warp_matrix``).

        That matrix takes indices of pixels, whose centres lie half a pixel
        on. The unbiased (UDP) matrix differs by less than a pixel.
        """
        width, height = (int(v) for v in meta['input_size'][:2])
        center = np.asarray(meta['input_center']).reshape(-1)[:2]
        extent = np.asarray(meta['input_scale']).reshape(-1)[:2]
        scale_x, scale_y = width / extent[0], height / extent[1]
        shift_x = width / 2 - scale_x * (center[0] + 0.5) + 0.5
        shift_y = height / 2 - scale_y * (center[1] + 0.5) + 0.5
        return cls(
            float(scale_x),
            float(scale_y),
            float(shift_x),
            float(shift_y),
            height,
            width,
        )

    def cells(
        self, frame_shape: tuple[int, int], mask_shape: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the row and column of a feature map under each row and column.

        Args:
            frame_shape: (H, W).
            mask_shape: Size of a feature map that covers the whole input.

        Returns:
            Integers (H,) and (W,); -1 outside the network's input.
        """
        rows = self._axis(
            frame_shape[0], self.scale_y, self.shift_y, self.height,
            mask_shape[0],
        )  # fmt: skip
        columns = self._axis(
            frame_shape[1], self.scale_x, self.shift_x, self.width,
            mask_shape[1],
        )  # fmt: skip
        return rows, columns

    @staticmethod
    def _axis(
        length: int, scale: float, shift: float, extent: int, cells: int
    ) -> np.ndarray:
        position = (np.arange(length) + 0.5) * scale + shift
        index = np.floor(position * (cells / extent)).astype(np.int64)
        return np.where((position >= 0) & (position < extent), index, -1)


def computed_pixels(
    masks: Mapping[CallSite, Tensor],
    input_map: InputMap,
    frame_shape: tuple[int, int],
    mirrored: Collection[CallSite] = (),
) -> np.ndarray:
    """Return how much was computed anew at each pixel of a frame.

    The average of all layers' masks, each weighted by its number of
    positions: of the outputs that lie under a pixel, the share that was
    computed. (With equal weights, a pyramid's many small maps would hide
    what the large ones show.) Maps of a single cell, of globally pooled
    features, say nothing about places and are left out.

    Args:
        masks: Bool (N, 1, ...) of each call site; the last two dimensions
            are space, what comes before them is averaged.
        input_map: From the frame to the network's input.
        frame_shape: (H, W).
        mirrored: Call sites that saw the input flipped horizontally.

    Returns:
        float32 (H, W) in [0, 1], 0 where the network did not look.
    """
    # Summing per size first leaves a handful of maps to enlarge.
    sums: dict[tuple[int, int], Tensor] = {}
    positions = 0
    for site, mask in masks.items():
        cells = mask.shape[-2:].numel()
        if cells == 1:
            continue
        mean = mask.float().flatten(0, -3).mean(0) * cells
        if site in mirrored:
            mean = mean.flip(-1)
        size = tuple(mean.shape)
        sums[size] = sums[size] + mean if size in sums else mean
        positions += cells
    result = np.zeros(frame_shape, dtype=np.float32)
    for size, total in sums.items():
        rows, columns = input_map.cells(frame_shape, size)
        values = (total / positions).cpu().numpy()[rows][:, columns]
        values[rows < 0] = 0
        values[:, columns < 0] = 0
        result += values
    return result.clip(0, 1)


def mirrored_sites(masks: Mapping[CallSite, Tensor]) -> set[CallSite]:
    """Find the call sites of the second half of a horizontal flip test.

    mmpose runs the whole network on the image and then on its mirror image,
    so that each layer's later half of calls is the mirrored one.
    """
    calls: dict[str, int] = {}
    for name, _ in masks:
        calls[name] = calls.get(name, 0) + 1
    return {site for site in masks if site[1] >= (calls[site[0]] + 1) // 2}


def tint(
    image: np.ndarray,
    share: np.ndarray,
    color: tuple[int, int, int] = TINT_BGR,
    opacity: float = 0.6,
) -> np.ndarray:
    """Lay a colour over an image, the stronger the higher the share.

    Args:
        image: (H, W, 3) uint8.
        share: (H, W) in [0, 1].
        color: In the image's channel order.
        opacity: Opacity of the colour where the share is 1.

    Returns:
        A new (H, W, 3) uint8 image; pixels of share 0 are unchanged.

    Raises:
        ValueError: The sizes differ.
    """
    if image.shape[:2] != share.shape:
        raise ValueError(
            f'expected a share of shape {image.shape[:2]} like the image, '
            f'got {share.shape}'
        )
    alpha = (share * opacity).astype(np.float32)[..., None]
    mixed = image + alpha * (np.array(color, dtype=np.float32) - image)
    return np.rint(mixed).clip(0, 255).astype(np.uint8)


def caption(image: np.ndarray, text: str) -> np.ndarray:
    """Write a line of text into the upper left corner.

    Args:
        image: (H, W, 3) uint8, BGR.
        text: ASCII; shrunk until it fits the width.

    Returns:
        A new image.
    """
    image = image.copy()
    scale = max(0.35, min(image.shape[:2]) / 900)
    (width, height), base = cv2.getTextSize(text, FONT, scale, 1)
    if width + 8 > image.shape[1]:
        scale *= (image.shape[1] - 8) / width
        (width, height), base = cv2.getTextSize(text, FONT, scale, 1)
    box = image[: height + base + 6, : width + 8]
    box[:] = box // 3
    write_text(image, text, (4, height + 3), scale, (255, 255, 255))
    return image


def write_text(
    canvas: np.ndarray,
    text: str,
    place: tuple[int, int],
    size: float,
    colour: tuple[int, int, int] = INK,
) -> None:
    """Write a line of text onto a picture, in place.

    Args:
        canvas: (H, W, 3) uint8, BGR.
        text: ASCII.
        place: Where the text begins: x, and y of its base line.
        size: Scale of OpenCV's font.
        colour: BGR.
    """
    cv2.putText(canvas, text, place, FONT, size, colour, 1, cv2.LINE_AA)

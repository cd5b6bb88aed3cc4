"""Frames with predictions and computed pixels drawn over them.

Symbols: H, W size of the frame; h, w size of the network's input, padding
included. A coordinate is continuous: pixel i covers [i, i + 1).
"""

import colorsys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor, nn

# (layer name, n-th call in the frame), as StreamState.last_masks() keys.
CallSite = tuple[str, int]
Colour = tuple[int, int, int]
FONT = cv2.FONT_HERSHEY_SIMPLEX
INK = (60, 60, 60)
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
# Magenta, which few scenes have; as BGR.
TINT_BGR = (180, 30, 230)
# Of a turn of the colour wheel: neighbours in number are far in colour.
GOLDEN_TURN = 0.618034
# Larger coordinates are cut off, which OpenCV's own arithmetic needs.
FARTHEST = 1 << 14


class PredictionDrawer:
    """Draws what a detector or a pose estimator found.

    Boxes carry the name of their class, the score and the number of their
    track, in a colour of their track or else of their class, which stays
    the same from frame to frame. Poses have the skeleton and the colours of
    ``dataset_meta``. The visualizer of the model's config is not asked: the
    hosts' take ten times as long.

    Args:
        model: With ``dataset_meta``, see :func:`mmskip.apis.init_model`.
        score_thr: Boxes or keypoints below this score are not drawn.
    """

    def __init__(self, model: nn.Module, score_thr: float = 0.3) -> None:
        meta = model.dataset_meta or {}
        self._score_thr = score_thr
        self._classes = meta.get('classes') or ()
        self._links = [tuple(link) for link in meta.get('skeleton_links', ())]
        self._link_colours = _to_bgr(meta.get('skeleton_link_colors', ()))
        self._point_colours = _to_bgr(meta.get('keypoint_colors', ()))

    def __call__(
        self, image: np.ndarray, prediction: BaseDataElement
    ) -> np.ndarray:
        """Draw on a copy of a frame.

        Args:
            image: (H, W, 3) uint8, BGR.
            prediction: A data sample with ``pred_instances``: ``bboxes``,
                ``scores`` and ``labels``, perhaps ``masks`` and
                ``instances_id``; or ``keypoints`` and ``keypoint_scores``,
                perhaps ``bboxes``.

        Returns:
            (H, W, 3) uint8, BGR.
        """
        canvas = np.array(image, order='C')
        found = prediction.pred_instances
        if 'keypoints' not in found:
            found = found[found.scores >= self._score_thr]
        colours = [self._colour(found, n) for n in range(len(found))]
        for n, colour in enumerate(colours):
            if 'masks' in found:
                _draw_mask(canvas, _numpy(found.masks[n]), colour)
        # Boxes of many instances are fewer than what is written on them.
        boxes = _pixels(found.bboxes) if 'bboxes' in found else ()
        thickness = max(1, round(min(canvas.shape[:2]) / 300))
        for box, colour in zip(boxes, colours, strict=False):
            x1, y1, x2, y2 = box
            cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, thickness)
        if 'keypoints' in found:
            for n in range(len(found)):
                scores = found.keypoint_scores[n]
                self._draw_pose(canvas, found.keypoints[n], _numpy(scores))
        for n, box in enumerate(boxes):
            _draw_label(canvas, self._text(found, n), box, colours[n])
        return canvas

    def _colour(self, found: InstanceData, number: int) -> Colour:
        track = _track(found, number)
        if track is not None:
            return stable_colour(track)
        return stable_colour(int(found.labels[number]) if 'labels' in found
                             else number)  # fmt: skip

    def _text(self, found: InstanceData, number: int) -> str:
        track = _track(found, number)
        words = [] if track is None else [f'#{track}']
        if 'labels' in found:
            label = int(found.labels[number])
            is_known = label < len(self._classes)
            words.append(self._classes[label] if is_known else str(label))
            words.append(f'{float(found.scores[number]):.2f}')
        return ' '.join(words)

    def _draw_pose(
        self, canvas: np.ndarray, points: Any, scores: np.ndarray
    ) -> None:
        points = np.asarray(_numpy(points))[:, :2]
        shown = (scores >= self._score_thr) & np.isfinite(points).all(1)
        places = [tuple(place) for place in _pixels(points).tolist()]
        radius = max(2, round(min(canvas.shape[:2]) / 180))
        for number, (start, end) in enumerate(self._links):
            if shown[start] and shown[end]:
                colour = _pick(self._link_colours, number)
                cv2.line(
                    canvas, places[start], places[end], colour, radius - 1,
                    cv2.LINE_AA,
                )  # fmt: skip
        for number in np.flatnonzero(shown):
            colour = _pick(self._point_colours, number)
            cv2.circle(canvas, places[number], radius, colour, -1, cv2.LINE_AA)


def stable_colour(number: int) -> Colour:
    """Give a bright colour (BGR) that depends on nothing but a number."""
    hue = (0.33 + number * GOLDEN_TURN) % 1
    # Three rings of brightness: a hundred numbers are a hundred colours.
    value = 1 - 0.18 * (number // 8 % 3)
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, value)
    return round(255 * blue), round(255 * green), round(255 * red)


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
        self,
        frame_shape: tuple[int, int],
        mask_shape: tuple[int, int],
        stride: int = 1,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the row and column of a feature map under rows and columns.

        Args:
            frame_shape: (H, W).
            mask_shape: Size of a feature map that covers the whole input.
            stride: Look at the centres of blocks of so many pixels.

        Returns:
            Integers (ceil(H / stride),) and (ceil(W / stride),); -1 outside
            the network's input.
        """
        height, width = frame_shape
        rows = self._axis(
            np.arange(stride / 2, height + stride / 2, stride) * self.scale_y
            + self.shift_y,
            self.height,
            mask_shape[0],
        )
        columns = self._axis(
            np.arange(stride / 2, width + stride / 2, stride) * self.scale_x
            + self.shift_x,
            self.width,
            mask_shape[1],
        )
        return rows, columns

    @staticmethod
    def _axis(position: np.ndarray, extent: int, cells: int) -> np.ndarray:
        index = np.floor(position * (cells / extent)).astype(np.int64)
        return np.where((position >= 0) & (position < extent), index, -1)


def computed_pixels(
    masks: Mapping[CallSite, Tensor],
    input_map: InputMap,
    frame_shape: tuple[int, int],
    mirrored: Collection[CallSite] = (),
    stride: int = 1,
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
        stride: Look at the centres of blocks of so many pixels a side.

    Returns:
        float32 (ceil(H / stride), ceil(W / stride)) in [0, 1], 0 where the
        network did not look.
    """
    # Counting per size first leaves a handful of maps to enlarge.
    groups: dict[tuple[int, ...], list[np.ndarray]] = {}
    positions = 0
    for site, mask in masks.items():
        rows, columns = mask.shape[-2:]
        if rows * columns == 1:
            continue
        positions += rows * columns
        images = mask.numpy(force=True).reshape(-1, rows, columns)
        if site in mirrored:
            images = images[..., ::-1]
        groups.setdefault((len(images), rows, columns), []).extend(images)
    result = np.zeros([-(-side // stride) for side in frame_shape], np.float32)
    for (count, *size), images in groups.items():
        rows, columns = input_map.cells(frame_shape, size, stride)
        weight = np.float32(size[0] * size[1] / count / positions)
        values = _sum(images)[rows][:, columns] * weight
        values[rows < 0] = 0
        values[:, columns < 0] = 0
        result += values
    return result.clip(0, 1)


def _sum(images: list[np.ndarray]) -> np.ndarray:
    """Add bool images, in bytes as long as those hold the sum."""
    total = np.zeros(images[0].shape, np.float32)
    for start in range(0, len(images), 255):
        count = np.zeros(total.shape, np.uint8)
        for image in images[start : start + 255]:
            count += image.view(np.uint8)
        total += count
    return total


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
    opacity: float = 0.45,
) -> np.ndarray:
    """Lay a colour over an image, as opaque as a share is high.

    Args:
        image: (H, W, 3) uint8.
        share: (h, w) in [0, 1], of any size; it is stretched to the image.
        color: In the image's channel order.
        opacity: Opacity of the colour where the share is 1.

    Returns:
        A new (H, W, 3) uint8 image; pixels of share 0 are unchanged.
    """
    alpha = cv2.convertScaleAbs(share, alpha=255 * opacity)
    if not alpha.any():
        return image.copy()
    if share.shape != image.shape[:2]:
        size = (image.shape[1], image.shape[0])
        alpha = cv2.resize(alpha, size, interpolation=cv2.INTER_NEAREST)
    kept = cv2.cvtColor(cv2.bitwise_not(alpha), cv2.COLOR_GRAY2BGR)
    added = cv2.merge(
        [cv2.convertScaleAbs(alpha, alpha=value / 255) for value in color]
    )
    mixed = cv2.multiply(image, kept, dst=kept, scale=1 / 255)
    return cv2.add(mixed, added, dst=mixed)


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


def _to_bgr(colours: Any) -> list[Colour]:
    return [tuple(int(value) for value in row[::-1]) for row in colours]


def _pick(colours: list[Colour], number: int) -> Colour:
    """Give a colour of a list, or of the number if the list is shorter."""
    if number < len(colours):
        return colours[number]
    return stable_colour(number)


def _numpy(values: Any) -> np.ndarray:
    return values.numpy(force=True) if isinstance(values, Tensor) else values


def _pixels(values: Any) -> np.ndarray:
    """Round coordinates to pixels that OpenCV can count with."""
    values = np.nan_to_num(np.asarray(_numpy(values), np.float32))
    return np.rint(values.clip(-FARTHEST, FARTHEST)).astype(int)


def _track(found: InstanceData, number: int) -> int | None:
    """Give the number of an instance's track, None if it is on none."""
    track = int(found.instances_id[number]) if 'instances_id' in found else -1
    return None if track < 0 else track


def _draw_mask(canvas: np.ndarray, mask: np.ndarray, colour: Colour) -> None:
    """Mix a colour with the pixels of a (H, W) mask, half and half."""
    mask = mask.astype(np.uint8)
    x, y, width, height = cv2.boundingRect(mask)
    if not width:
        return
    patch = canvas[y : y + height, x : x + width]
    mixed = cv2.addWeighted(patch, 0.5, np.full_like(patch, colour), 0.5, 0)
    cv2.copyTo(mixed, mask[y : y + height, x : x + width], patch)


def _draw_label(
    canvas: np.ndarray, text: str, box: np.ndarray, colour: Colour
) -> None:
    """Write a text on a plate of a box's colour, above or else inside it."""
    if not text:
        return
    size = max(0.4, min(canvas.shape[:2]) / 1200)
    (width, height), base = cv2.getTextSize(text, FONT, size, 1)
    x = max(0, min(box[0], canvas.shape[1] - width - 4))
    bottom = box[1] if box[1] >= height + base + 2 else box[1] + height + base
    bottom = max(height + base, min(bottom, canvas.shape[0]))
    top = bottom - height - base
    cv2.rectangle(canvas, (x, top), (x + width + 3, bottom), colour, -1)
    blue, green, red = colour
    is_bright = 0.114 * blue + 0.587 * green + 0.299 * red > 140
    ink = BLACK if is_bright else WHITE
    write_text(canvas, text, (x + 2, bottom - base + 1), size, ink)

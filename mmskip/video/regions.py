"""The part of a picture that is watched, and what is done about the rest."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

from mmskip.reading import InputError
from mmskip.visualization import InputMap

Polygon = Sequence[tuple[float, float]]


class Region:
    """Says which pixels of a camera's picture are watched.

    Args:
        watch: Polygons around what is watched; none of them: everything.
        ignore: Polygons of what is not, or the path of a picture of the
            shape of the frames that is white (or any but black) there.

    Corners are (x, y) in pixels, or in shares of width and height if none of
    a polygon exceeds 1.

    Raises:
        InputError: A picture that cannot be read, a polygon of less than
            three corners.
    """

    def __init__(
        self,
        watch: Sequence[Polygon] = (),
        ignore: Sequence[Polygon | str | Path] = (),
    ) -> None:
        self._watch = [_corners(polygon) for polygon in watch]
        self._ignore = [
            _read_mask(item)
            if isinstance(item, (str, Path))
            else _corners(item)
            for item in ignore
        ]
        self._masks: dict[tuple[int, int], np.ndarray] = {}

    def mask(self, shape: tuple[int, int]) -> np.ndarray:
        """Draw the region for frames of a size.

        Args:
            shape: (H, W).

        Returns:
            Bool (H, W), True where the frame is watched.

        Raises:
            InputError: Nothing is watched.
        """
        if shape not in self._masks:
            mask = np.full(shape, not self._watch, np.uint8)
            for polygon in self._watch:
                cv2.fillPoly(mask, [_pixels(polygon, shape)], 1)
            for item in self._ignore:
                if item.dtype == np.uint8:
                    size = (shape[1], shape[0])
                    found = cv2.resize(
                        item, size, interpolation=cv2.INTER_NEAREST
                    )
                    mask[found > 0] = 0
                else:
                    cv2.fillPoly(mask, [_pixels(item, shape)], 0)
            if not mask.any():
                raise InputError(
                    'expected a region in which something is watched, got '
                    f'none of frames of {shape[1]}x{shape[0]}; look at '
                    '--region and --ignore'
                )
            self._masks[shape] = mask.astype(bool)
        return self._masks[shape]

    def share(self, shape: tuple[int, int]) -> float:
        """Tell which share of frames of a size (H, W) is watched."""
        return float(self.mask(shape).mean())

    def keep(
        self, prediction: BaseDataElement, shape: tuple[int, int]
    ) -> BaseDataElement:
        """Drop the boxes whose centre is not watched, in place.

        Args:
            prediction: Data sample of a detector, in pixels of the frame.
            shape: (H, W) of the frame.

        Returns:
            The same data sample.
        """
        found = prediction.pred_instances
        height, width = shape
        centres = (found.bboxes[:, :2] + found.bboxes[:, 2:]) / 2
        x = centres[:, 0].long().clamp(0, width - 1)
        y = centres[:, 1].long().clamp(0, height - 1)
        mask = torch.from_numpy(self.mask(shape))
        prediction.pred_instances = found[mask[y, x]]
        return prediction


class _Held(NamedTuple):
    """Holds what lies outside of the region, and where that is.

    Attributes:
        outside: Bool (h, w), True for pixels of the input that stay.
        picture: Input (C, h, w) that they are taken from.
        where: What the masks were made for.
    """

    outside: Tensor
    picture: Tensor
    where: InputMap


class RegionHolder:
    """Keeps a network's input as it was outside of a region.

    What does not change costs nothing, and the network still has the
    surroundings of what is watched: they are those of the reference frame.

    Args:
        region: The region.
    """

    def __init__(self, region: Region) -> None:
        self._region = region
        self._held: _Held | None = None

    def renew(self) -> None:
        """Take the surroundings from the next input."""
        self._held = None

    def hold(
        self, inputs: Tensor, where: InputMap, shape: tuple[int, int]
    ) -> None:
        """Put the surroundings into an input, in place.

        Args:
            inputs: (C, h, w), of any dtype.
            where: From the frame to the input.
            shape: (H, W) of the frame.
        """
        held = self._held
        if held is None or held.where != where:
            outside = torch.from_numpy(~self._seen_by(inputs, where, shape))
            self._held = _Held(outside, inputs.clone(), where)
        else:
            torch.where(held.outside, held.picture, inputs, out=inputs)

    def _seen_by(
        self, inputs: Tensor, where: InputMap, shape: tuple[int, int]
    ) -> np.ndarray:
        """Find the pixels (h, w) of an input that show the region."""
        height, width = inputs.shape[1:]
        mask = self._region.mask(shape).astype(np.uint8)
        matrix = np.array(
            [
                [where.scale_x, 0, where.shift_x],
                [0, where.scale_y, where.shift_y],
            ]
        )
        return cv2.warpAffine(
            mask, matrix, (width, height), flags=cv2.INTER_NEAREST
        ).astype(bool)


def _corners(polygon: Polygon) -> np.ndarray:
    corners = np.asarray(polygon, np.float64)
    if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 3:
        raise InputError(
            'expected a polygon of three corners (x, y) or more, got '
            f'{np.asarray(polygon).tolist()}'
        )
    return corners


def _pixels(corners: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    if corners.max() <= 1:
        corners = corners * (shape[1], shape[0])
    return np.rint(corners).astype(np.int32)


def _read_mask(path: str | Path) -> np.ndarray:
    found = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if found is None:
        raise InputError(
            f'cannot read {path}: expected a picture that is white where '
            'nothing is to be watched, and black elsewhere'
        )
    return found


def read_polygon(text: str) -> list[tuple[float, float]]:
    """Read the corners of a polygon from ``x1,y1,x2,y2,x3,y3``.

    Raises:
        InputError: Not an even number of numbers, or less than six.
    """
    try:
        numbers = [float(part) for part in text.split(',')]
    except ValueError:
        numbers = []
    if len(numbers) < 6 or len(numbers) % 2:
        raise InputError(
            f'expected a polygon x1,y1,x2,y2,x3,y3,... got {text!r}'
        )
    return list(zip(numbers[::2], numbers[1::2], strict=True))

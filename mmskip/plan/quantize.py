"""Ranges of the values that the layers of a model read, for plans in int8.

Post-training quantisation. Inputs become bytes on one grid for each layer,
whose range loses least in the squared error over what a few frames showed
(torch's ``HistogramObserver``); weights become numbers of 7 bits with one
scale for each filter. Sums are whole numbers, and what a layer passes on is in
bfloat16. A change that is smaller than a step of the grid is no change.

Depthwise layers, those that lose too much, and those that no frame of the
calibration ran through stay in bfloat16.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.ao.quantization.observer import HistogramObserver
from torch.func import functional_call

from mmskip.native.library import MOST_WEIGHT
from mmskip.native.packed import weight_scales
from mmskip.reading import InputError
from mmskip.skip_conv import SkipConvMixin

from .dense import low_layers

#: The error above which a layer stays in bfloat16, of its output's norm.
MOST_ERROR = 0.1
#: Frames that are enough to know the values of a camera.
FEW_FRAMES = 16


class InputGrid(NamedTuple):
    """The numbers that the bytes of a layer's input stand for.

    Attributes:
        step: Byte b stands for (b - zero) * step.
        zero: The byte of 0.
        error: How far the layer's output in int8 was from that in float32 in
            the last frame, as a share of its norm.
    """

    step: float
    zero: int
    error: float


class Calibration:
    """Tells which layers of a model run in int8, and on which grids.

    Args:
        grids: A grid for each layer that was seen, by the layer's name.
        most_error: Layers with a larger error stay in bfloat16.
    """

    def __init__(
        self, grids: Mapping[str, InputGrid], most_error: float = MOST_ERROR
    ) -> None:
        self.grids = dict(grids)
        self.most_error = most_error

    def in_int8(self) -> dict[str, InputGrid]:
        """Give the layers that lose little enough."""
        return {
            name: grid
            for name, grid in self.grids.items()
            if grid.error <= self.most_error
        }

    def __str__(self) -> str:
        few = self.in_int8()
        number = f'{len(few)} of {len(self.grids)}'
        lines = [f'{number} layers in int8, the others in bfloat16']
        worst = sorted(self.grids.items(), key=lambda item: -item[1].error)
        lines += [
            f'  {name}: error {grid.error:.3f} in int8'
            for name, grid in worst
            if name not in few
        ]
        return '\n'.join(lines)

    def save(self, path: str | Path) -> None:
        """Write it as JSON, for :meth:`load`."""
        content = {
            'most_error': self.most_error,
            'layers': {k: v._asdict() for k, v in self.grids.items()},
        }
        Path(path).write_text(json.dumps(content, indent=2) + '\n')

    @classmethod
    def load(cls, path: str | Path) -> 'Calibration':
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: The file cannot be read, or is none of these.
        """
        try:
            content = json.loads(Path(path).read_text(encoding='utf-8'))
            grids = {
                name: InputGrid(
                    float(grid['step']),
                    int(grid['zero']),
                    float(grid['error']),
                )
                for name, grid in content['layers'].items()
            }
            most = float(content['most_error'])
        except (OSError, KeyError, TypeError, AttributeError, ValueError) as e:
            raise ValueError(
                f'expected {path} to be a calibration that '
                '`mmskip calibrate --precision int8` wrote, got '
                f'{type(e).__name__}: {e}'
            ) from e
        for name, grid in grids.items():
            if not (0 < grid.step < math.inf and 0 <= grid.zero <= 255):
                raise ValueError(
                    f'{path}: expected a step above 0 and a zero in [0, 255] '
                    f'of layer {name}, got {grid.step} and {grid.zero}'
                )
        return cls(grids, most)


@contextmanager
def observed_inputs(model: nn.Module) -> Iterator[dict[str, 'Observed']]:
    """Note the values that layers read while the model runs densely.

    Args:
        model: A model in eval mode, folded, outside of any stream.

    Yields:
        What was seen, by layer; it fills while frames run.

    Raises:
        InputError: The model has no layer that int8 is for.
    """
    seen: dict[str, Observed] = {}
    hooks = []
    layers = dict(_layers(model))
    skipping = [m for m in model.modules() if isinstance(m, SkipConvMixin)]
    if skipping and not any(layer in skipping for layer in layers.values()):
        raise InputError(
            "expected convolutions of images with memory='accumulated', "
            'whose outputs are computed anew, got none; convert the model '
            'with it to run it in int8'
        )
    if not layers:
        raise InputError(
            'expected convolutions of images or linear layers, which int8 is '
            "for, got none; use precision='bfloat16'"
        )
    for name, layer in layers.items():

        def observe(
            layer: nn.Module, inputs: tuple[Tensor], name: str = name
        ) -> None:
            seen.setdefault(name, Observed(layer)).add(inputs[0])

        hooks.append(layer.register_forward_pre_hook(observe))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


class Observed:
    """Notes the inputs of one layer.

    Args:
        layer: The layer.
    """

    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer
        self._values = HistogramObserver(
            dtype=torch.quint8, qscheme=torch.per_tensor_affine
        )
        self._last: Tensor | None = None

    def add(self, x: Tensor) -> None:
        """Note an input."""
        self._last = x.detach()
        self._values(self._last)

    def grid(self) -> InputGrid | None:
        """Find the grid that loses least.

        None if inputs were not finite, or all 0, which tells of no range.
        """
        step, zero = (v.item() for v in self._values.calculate_qparams())
        if not self._values.eps.item() < step < math.inf:
            return None
        error = self._error(step, int(zero))
        return InputGrid(step, int(zero), error)

    def _error(self, step: float, zero: int) -> float:
        weight = self._layer.weight.detach()
        # A transposed convolution has its output channels second.
        axis = int(getattr(self._layer, 'transposed', False))
        scale = weight_scales(weight.transpose(0, axis))
        rounded = torch.fake_quantize_per_channel_affine(
            weight,
            scale,
            torch.zeros_like(scale, dtype=torch.int32),
            axis,
            -MOST_WEIGHT,
            MOST_WEIGHT,
        )
        x = torch.fake_quantize_per_tensor_affine(
            self._last, step, zero, 0, 255
        )
        exact = self._layer(self._last)
        output = functional_call(self._layer, {'weight': rounded}, (x,))
        norm = exact.norm().item()
        return (output - exact).norm().item() / norm if norm else 0.0


@torch.no_grad()
def calibrate(
    model: nn.Module,
    frames: Iterable[Any],
    most_error: float = MOST_ERROR,
) -> Calibration:
    """Run frames through a model, to know the values of its layers.

    Args:
        model: A model in eval mode, converted or not; fold it first.
        frames: The model's argument, or a tuple of them, for each frame.
            About :data:`FEW_FRAMES` of the camera that it is for are enough,
            of different hours.
        most_error: Layers whose output is off by a larger share of its norm
            stay in bfloat16.

    Raises:
        ValueError: There is no frame, or no layer that int8 is for.
    """
    with observed_inputs(model) as seen:
        for frame in frames:
            model(*frame) if isinstance(frame, tuple) else model(frame)
    return calibration_of(seen, most_error)


@torch.no_grad()
def calibration_of(
    seen: Mapping[str, Observed], most_error: float = MOST_ERROR
) -> Calibration:
    """Turn what :func:`observed_inputs` saw into grids.

    Raises:
        ValueError: Nothing was seen.
    """
    grids = {name: layer.grid() for name, layer in seen.items()}
    found = {name: grid for name, grid in grids.items() if grid is not None}
    if not found:
        raise ValueError(
            'expected frames to calibrate on, got none that reached a '
            'convolution; give about 16 frames of your video'
        )
    return Calibration(found, most_error)


def apply_calibration(
    model: nn.Module, calibration: Calibration | Iterable[Any]
) -> Calibration:
    """Tell layers on which grids to keep their inputs.

    Args:
        model: A model in eval mode, folded.
        calibration: A calibration, or frames to make one of.

    Returns:
        The calibration.

    Raises:
        ValueError: No layer of the model has a grid, or see
            :func:`calibrate`.
    """
    if not isinstance(calibration, Calibration):
        calibration = calibrate(model, calibration)
    layers = dict(_layers(model))
    few = calibration.in_int8()
    if not layers.keys() & calibration.grids.keys():
        raise ValueError(
            'expected a calibration of this model, whose layers are '
            f'{", ".join(list(layers)[:3])}, ..., got one of '
            f'{", ".join(list(calibration.grids)[:3])}, ...'
        )
    for name, layer in layers.items():
        # Others have their grid from the calibration when they are packed.
        if isinstance(layer, SkipConvMixin):
            layer.input_grid = few[name][:2] if name in few else None
    return calibration


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Give the layers that int8 is for: those computed anew, but depthwise.

    A filter of one channel has too few products to gain from bytes.
    """
    dense = dict(low_layers(model))
    for name, layer in model.named_modules():
        if isinstance(layer, SkipConvMixin):
            takes = (
                layer.memory == 'accumulated'
                and layer.weight.dim() == 4
                and layer.kernel.shape[1] > 1
            )
        else:
            takes = (
                name in dense
                and not isinstance(layer, nn.ConvTranspose2d)
                and layer.weight.shape[1] > 1
            )
        if takes:
            yield name, layer

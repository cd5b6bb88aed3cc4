"""Error and MACs of a model with norm gates, on unlabelled clips."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmskip.layers import NormGate, SkipConvMixin
from mmskip.runtime import InputError, count_macs, stream

from .threshold_search import Cost


def norm_gates(model: nn.Module) -> dict[str, NormGate]:
    """The norm gates of a converted model, by the name of their layer.

    Raises:
        InputError: It has none.
    """
    gates = {
        name: module.gate
        for name, module in model.named_modules()
        if isinstance(module, SkipConvMixin)
        and isinstance(module.gate, NormGate)
    }
    if not gates:
        raise InputError(
            f'expected a model with norm gates, got {type(model).__name__} '
            'without any; convert it with mmskip.SkipConversion and an '
            'InputNormGate or OutputNormGate (learned gates have no '
            'threshold)'
        )
    return gates


class OutputError:
    """Measures what thresholds do to a model's outputs and MACs.

    The error is the root of the mean, over the tensors of an output, of
    ``sum (z - z_dense)^2 / sum z_dense^2``, both sums over all frames. MACs
    are those of the whole model, reference frames and gates included.

    Args:
        model: With norm gates, in eval mode.
        clips: Frames of each clip, as ``forward`` takes them.
        forward: Runs the model on a frame.

    Attributes:
        runs: Measurements so far.

    Raises:
        InputError: No norm gate, or no clip of two frames or more.
    """

    def __init__(
        self,
        model: nn.Module,
        clips: Sequence[Sequence[Any]],
        forward: Callable[[Any], Any],
    ) -> None:
        if not clips or min(map(len, clips)) < 2:
            raise InputError(
                'expected clips of 2 frames or more, got '
                f'{[len(clip) for clip in clips]}'
            )
        self.runs = 0
        self._model = model
        self._gates = norm_gates(model)
        self._clips = clips
        self._forward = forward
        with torch.no_grad():
            self._dense = [
                [list(_tensors(forward(frame))) for frame in clip]
                for clip in clips
            ]
        self._power = _sum(
            [_squares(z) for z in frame]
            for frames in self._dense
            for frame in frames
        )

    def __call__(self, thresholds: Mapping[str, float]) -> Cost:
        """Set a threshold per layer, and measure.

        Args:
            thresholds: By layer; all layers of :func:`norm_gates`.
        """
        self.runs += 1
        for name, gate in self._gates.items():
            gate.threshold = thresholds[name]
        rows = []
        with torch.no_grad(), count_macs(self._model) as macs:
            for clip, dense in zip(self._clips, self._dense, strict=True):
                with stream(self._model):
                    for frame, outputs in zip(clip, dense, strict=True):
                        found = _tensors(self._forward(frame))
                        pairs = zip(found, outputs, strict=True)
                        rows.append([_squares(y - z) for y, z in pairs])
        total = macs.total()
        shares = [
            wrong / max(power, 1e-12)
            for wrong, power in zip(_sum(rows), self._power, strict=True)
        ]
        error = (sum(shares) / len(shares)) ** 0.5
        return Cost(error, total.spent / total.dense)


def _tensors(output: Any) -> Iterator[Tensor]:
    """The floating point tensors of nested outputs."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, (list, tuple)):
        for value in output:
            yield from _tensors(value)


def _squares(tensor: Tensor) -> float:
    return float(tensor.double().square().sum())


def _sum(rows: Any) -> list[float]:
    return [sum(column) for column in zip(*rows, strict=True)]

"""How layers run while a graph is traced: in a fixed order."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from mmskip.layers import SkipConvMixin
from mmskip.ops import activate_, dense_frame, native


class Tape(Protocol):
    """What runs the layers of a model in a fixed order."""

    def run(self, layer: SkipConvMixin, x: Tensor) -> Tensor:
        """Compute the output of the next layer."""


class FirstFrameTape:
    """A tape of reference frames: what each call has to remember."""

    def __init__(self) -> None:
        self.records: list[tuple[SkipConvMixin, Tensor, Tensor]] = []

    def run(self, layer: SkipConvMixin, x: Tensor) -> Tensor:
        """Compute a dense output."""
        output, *images = dense_frame(
            x, layer.weight, layer.bias, layer.geometry(x), True
        )
        self.records.append((layer, *images))
        return activate_(output, layer.activation)


class NextFrameTape:
    """A tape of later frames: each call finds its memory.

    Args:
        calls: Arguments of the native operator, but the frame, by call.
    """

    def __init__(self, calls: Sequence[tuple]) -> None:
        self.calls = calls
        self.masks: list[Tensor] = []

    def run(self, layer: SkipConvMixin, x: Tensor) -> Tensor:
        """Compute what fires."""
        arguments = self.calls[len(self.masks)]
        output, mask = native.skip_frame(x, *arguments)
        self.masks.append(mask)
        return output

"""Notices weights that change while a stream goes on."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from mmskip.layers import SkipConvMixin
from mmskip.ops import address_of, fingerprint, native


class Part(NamedTuple):
    """The weights of a layer, or those of its gate.

    Attributes:
        layer: Name of the layer.
        is_gate: Whether they are those of its gate.
    """

    layer: str
    is_gate: bool


class _Place(NamedTuple):
    """Where a module keeps a tensor.

    Attributes:
        part: Which the tensor is of.
        tensors: The module's parameters or buffers.
        name: Of the tensor among them.
        tensor: That was there; None for none.
        is_read: Whether its values are compared in Python, all of them.
        mark: What is known of it.
    """

    part: Part
    tensors: dict[str, Any]
    name: str
    tensor: Tensor | None
    is_read: bool
    mark: tuple

    def holds(self) -> bool:
        """Whether the same tensor is there."""
        return self.tensors.get(self.name) is self.tensor


class WeightWatch:
    """Tells which weights are others than when it was made.

    Nothing is missed of what torch's version counters count, of parameters
    that are replaced, and of their data. What is written past the counters
    (``weight.data.copy_``, as the averaging of weights does) is found by the
    values: by all of them in vectors and in layers that run on the torch
    reference, which reads the weights themselves; by some of them where the
    native backend runs on a copy of its own. On other devices than the CPU
    values are not read, as that would wait for the device.

    Args:
        layers: Names of the layers.
        is_native: Whether the native backend runs those that it takes.

    Attributes:
        is_native: The same.
    """

    def __init__(
        self, layers: Mapping[SkipConvMixin, str], is_native: bool
    ) -> None:
        self.is_native = is_native
        self._places = [
            place
            for layer, name in layers.items()
            for place in _places(
                layer, name, not is_native or bool(layer.native_refusal())
            )
        ]
        found = [p for p in self._places if p.tensor is not None]
        self._board = None if native.MISSING else native.new_board(0)
        self._slow = [
            p
            for p in found
            if p.is_read or self._board is None or not p.tensor.is_cpu
        ]
        slow = {id(p.tensor) for p in self._slow}
        for place in found:
            if id(place.tensor) not in slow:
                self._board.watch(place.tensor)

    def changed(self) -> set[Part]:
        """What has changed since the watch began."""
        # Plain loops: this is done in every frame.
        if (
            all(p.tensors.get(p.name) is p.tensor for p in self._places)
            and (self._board is None or self._board.holds())
            and all(p.mark == _mark(p.tensor, p.is_read) for p in self._slow)
        ):
            return set()
        return {
            p.part
            for p in self._places
            if not p.holds() or p.mark != _mark(p.tensor, p.is_read)
        }


def _places(
    layer: SkipConvMixin, name: str, is_read: bool
) -> Iterator[_Place]:
    """Where a layer keeps tensors; where there is none, one may come."""
    for owner in layer.modules():
        part = Part(name, _is_in(owner, layer.gate))
        for tensors in (owner._parameters, owner._buffers):
            for key, tensor in tensors.items():
                mark = _mark(tensor, is_read)
                yield _Place(part, tensors, key, tensor, is_read, mark)


def _is_in(module: nn.Module, whole: nn.Module) -> bool:
    return any(module is part for part in whole.modules())


def _mark(tensor: Tensor | None, is_read: bool) -> tuple:
    """What differs if a tensor does."""
    if tensor is None:
        return ()
    version = 0 if tensor.is_inference() else tensor._version
    if not tensor.is_cpu:
        return version, address_of(tensor)
    whole = is_read or tensor.dim() < 2 or tensor.is_inference()
    return version, address_of(tensor), fingerprint(tensor, 0 if whole else 16)

"""The memory of one video stream, and a watch over the weights it is of.

Memory lives here and not in the layers, so that one model serves several
streams. It is only right for the weights that it was computed with:
:class:`WeightWatch` notices those that change while a stream goes on.
"""

import copy
import operator
import weakref
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from mmskip.native import address_of, fingerprint
from mmskip.native import library as native

from .layer import SkipConvMixin
from .native_layer import NativeCall
from .policy import PolicyMemory, StreamPolicy
from .reference import HeldMemory, SkipMemory

CallSite = tuple[str, int]


class StreamState:
    """Keeps the memory of one video, or of B videos in lock-step.

    With a policy the stream also restarts by itself, at scene cuts or when
    skipping does not pay; without one, only where its user says so.

    Memory is kept per call site, (layer name, n-th call in this frame): a
    head shared by pyramid levels, or a network that runs twice a frame for
    a flip test, has one slot for each use.

    Args:
        policy: When to take reference frames.

    Attributes:
        policy: The same.
        frames: Number of frames since the last reset.
        shape_changes: Number of times that a call site met an input of
            another shape, dtype or device and became a reference frame again.
        weight_changes: Number of times that one did because the weights of
            its layer had changed.
        slots: The memory of each call site.
        attention: Last results of attention, by the call site of the layer in
            front; see :mod:`.attention`.
        last_images: The last frame in grey, (N, H, W), where motion is
            compensated.
        lost_motion: Number of frames whose motion could not be estimated,
            and was taken for none.
        plans: Plans of the modules that run in one, by their forward and the
            number of its call in a frame.
        watch: Watch over the weights; None before the first frame, and in
            copies, which trust the weights that they find.
        restart: Why the last frame was a reference frame, see
            :mod:`.policy`; None if it was not, or nobody asked.
        restarts: Number of reference frames of each reason since the last
            reset that was not the policy's own.
    """

    def __init__(self, policy: StreamPolicy | None = None) -> None:
        self.policy = policy
        self.frames = 0
        self.shape_changes = 0
        self.weight_changes = 0
        self.slots: dict[CallSite, SkipMemory | HeldMemory] = {}
        self.attention: dict[CallSite, Any] = {}
        self.last_images: Any = None
        self.lost_motion = 0
        self.restart: str | None = None
        self.restarts: Counter[str] = Counter()
        self.plans: dict[tuple[Any, int], Any] = {}
        self.watch: WeightWatch | None = None
        self._memory = None if policy is None else PolicyMemory(policy)
        self._masks: dict[CallSite, Tensor] = {}
        self._calls: dict[CallSite, NativeCall] = {}
        self._planned_for: weakref.ref[nn.Module] | None = None
        self._owner: weakref.ref[nn.Module] | None = None

    def reset(self) -> None:
        """Forget the video: the next frame is a reference frame.

        The memory of plans stays, and is used again by the next video of
        the same model and size; drop the state to free it.
        """
        self._forget_frames()
        self.restart = None
        self.restarts.clear()
        if self.policy is not None:
            self._memory = PolicyMemory(self.policy)

    @property
    def is_busy(self) -> bool:
        """True while the policy computes all frames densely."""
        return self._memory is not None and self._memory.is_busy

    def follow_policy(self, images: Tensor) -> None:
        """Begin again with a frame if the policy says so.

        Args:
            images: The frame, (N, C, H, W).
        """
        if self._memory is None:
            return
        self.restart = self._memory.decide(images, self.frames)
        if self.restart is not None:
            self.restarts[self.restart] += 1
            if self.frames:
                self._forget_frames()

    def note_cost(self, executed: int, dense: int) -> None:
        """Tell the policy the MACs of a frame, and those of a dense one."""
        if self._memory is not None and self.restart is None and dense:
            self._memory.note_cost(executed / dense)

    def _forget_frames(self) -> None:
        self.frames = 0
        self.shape_changes = 0
        self.weight_changes = 0
        self.slots.clear()
        self.attention.clear()
        self.last_images = None
        self.lost_motion = 0
        self._masks.clear()
        self._calls.clear()
        self._owner = None

    def forget(self, layers: Collection[str]) -> None:
        """Make the next call of layers a reference frame.

        Args:
            layers: Names of layers that have got other weights.
        """
        for site in [site for site in self.slots if site[0] in layers]:
            self.weight_changes += 1
            for kept in (
                self.slots,
                self.attention,
                self._masks,
                self._calls,
            ):
                kept.pop(site, None)

    @property
    def nbytes(self) -> int:
        """Bytes held by the memory of all call sites and plans."""
        kept = (*self.slots.values(), *self.attention.values())
        slots = sum(memory.nbytes for memory in kept)
        plans = self.plans.values()
        return slots + sum(plan.memory_beside(self.slots) for plan in plans)

    def last_masks(self) -> dict[CallSite, Tensor]:
        """Copy the outputs that each call site computed in its last call.

        Returns:
            Bool (N, 1, H_out, W_out) per call site; (N, 1, T, H, W) for 3-D
            convolutions. All ones in a reference frame.
        """
        return {site: mask.clone() for site, mask in self._masks.items()}

    def last_mask(self, site: CallSite) -> Tensor | None:
        """Give the outputs that a call site computed, without a copy."""
        return self._masks.get(site)

    def memory_of(self, site: CallSite) -> SkipMemory | None:
        """Give the memory of a call site, whatever holds it."""
        memory = self.slots.get(site)
        return None if memory is None else memory.whole()

    def recall(self, site: CallSite, x: Tensor) -> SkipMemory | None:
        """Give the memory of a call site if ``x`` continues it, else None."""
        memory = self.memory_of(site)
        if memory is not None and not memory.fits(x):
            self.shape_changes += 1
            return None
        return memory

    def keep(self, site: CallSite, memory: SkipMemory, mask: Tensor) -> None:
        """Remember the results of a call site."""
        # A memory that was updated in place is here already.
        if self.slots.get(site) is not memory:
            self.slots[site] = memory.detach()
        self._masks[site] = mask

    def prepared(self, site: CallSite) -> NativeCall | None:
        """Give the call that was prepared for the next frames of a site."""
        return self._calls.get(site)

    def prepare(self, site: CallSite, call: NativeCall | None) -> None:
        """Keep the call that runs the next frames of a call site."""
        if call is None:
            self._calls.pop(site, None)
        else:
            self._calls[site] = call

    def restore(
        self,
        site: CallSite,
        memory: SkipMemory | HeldMemory,
        call: NativeCall | None,
    ) -> None:
        """Give a call site its memory back, with what was prepared for it.

        Args:
            site: The call site.
            memory: Memory that the call updates in place, without gradients.
            call: Call that runs the next frames; None if a plan does.
        """
        self.slots[site] = memory
        self.prepare(site, call)

    def note(self, site: CallSite, mask: Tensor) -> None:
        """Remember the outputs that a prepared call computed."""
        self._masks[site] = mask

    def note_all(self, masks: Mapping[CallSite, Tensor]) -> None:
        """Remember what a plan computed at its call sites."""
        self._masks.update(masks)

    def has_noted(self, masks: Mapping[CallSite, Tensor]) -> bool:
        """Tell if call sites computed last what they say, and nothing else."""
        noted = map(self._masks.get, masks)
        return all(map(operator.is_, noted, masks.values()))

    def claim(self, model: nn.Module) -> None:
        """Tie the memory to a model until the next reset.

        Raises:
            ValueError: The memory was made by another model.
        """
        if self._owner is not None and self._owner() is not model:
            raise ValueError(
                'expected the StreamState of this model, got one that holds '
                "another model's memory; make a new StreamState() or call "
                'its reset()'
            )
        self._owner = weakref.ref(model)
        if self._planned_for is None or self._planned_for() is not model:
            self.plans.clear()
            self.watch = None
            self._planned_for = self._owner

    def __copy__(self) -> 'StreamState':
        # A stream writes into its memory: nothing of it can be shared.
        return copy.deepcopy(self)

    def __getstate__(self) -> dict:
        # Not what belongs to a model: in another process it is another one.
        left = dict(plans={}, watch=None, _calls={}, _owner=None)
        return {**self.__dict__, **left, '_planned_for': None}

    def __repr__(self) -> str:
        return (
            f'StreamState(frames={self.frames}, '
            f'call_sites={len(self.slots)}, nbytes={self.nbytes})'
        )


class Contents:
    """Notes what dicts hold under their keys, to tell if that is still there.

    It is asked in every frame about each setting of each layer: hundreds of
    steps of Python would cost as much as a small network. ``dict.get`` and
    ``is`` are called without any.

    Args:
        entries: Dicts and keys.
    """

    def __init__(self, entries: Iterable[tuple[dict[str, Any], str]]) -> None:
        entries = list(entries)
        self._dicts = [place for place, _ in entries]
        self._keys = [key for _, key in entries]
        self._values = list(map(dict.get, self._dicts, self._keys))

    def stay(self) -> bool:
        """Tell if the same objects are there."""
        found = map(dict.get, self._dicts, self._keys)
        return all(map(operator.is_, found, self._values))


class WeightGroup(NamedTuple):
    """Names the weights of a layer, or those of its gate.

    Attributes:
        layer: Name of the layer.
        is_gate: True for the weights of its gate.
    """

    layer: str
    is_gate: bool


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
        is_native: True if the native backend runs those that it takes.

    Attributes:
        is_native: True if the native backend runs.
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
        self._tensors = Contents((p.tensors, p.name) for p in self._places)
        found = [p for p in self._places if p.tensor is not None]
        self._native = None if native.MISSING else native.new_plan(0)
        self._slow = [
            p
            for p in found
            if p.is_read or self._native is None or not p.tensor.is_cpu
        ]
        slow = {id(p.tensor) for p in self._slow}
        for place in found:
            if id(place.tensor) not in slow:
                self._native.watch(place.tensor)

    def changed(self) -> set[WeightGroup]:
        """List the weights that have changed since the watch began."""
        if (
            self._tensors.stay()
            and (self._native is None or self._native.holds())
            and all(p.mark == _mark(p.tensor, p.is_read) for p in self._slow)
        ):
            return set()
        return {
            p.group
            for p in self._places
            if not p.holds() or p.mark != _mark(p.tensor, p.is_read)
        }


class _Place(NamedTuple):
    """Notes where a module keeps a tensor.

    Attributes:
        group: Layer or gate that the tensor belongs to.
        tensors: The module's parameters or buffers.
        name: Name of the tensor among them.
        tensor: Tensor that was there; None for none.
        is_read: True if all its values are compared in Python.
        mark: Version, address and hash that it had.
    """

    group: WeightGroup
    tensors: dict[str, Any]
    name: str
    tensor: Tensor | None
    is_read: bool
    mark: tuple

    def holds(self) -> bool:
        """Tell if the same tensor is there."""
        return self.tensors.get(self.name) is self.tensor


def _places(
    layer: SkipConvMixin, name: str, is_read: bool
) -> Iterator[_Place]:
    """List where a layer keeps tensors; where there is none, one may come."""
    owners = [*layer.modules()]
    if layer.keeper is not None:
        owners.append(layer.keeper)
    for owner in owners:
        group = WeightGroup(name, _is_in(owner, layer.gate))
        for tensors in (owner._parameters, owner._buffers):
            for key, tensor in tensors.items():
                mark = _mark(tensor, is_read)
                yield _Place(group, tensors, key, tensor, is_read, mark)


def _is_in(module: nn.Module, whole: nn.Module) -> bool:
    return any(module is part for part in whole.modules())


def _mark(tensor: Tensor | None, is_read: bool) -> tuple:
    """Give values that differ if a tensor does."""
    if tensor is None:
        return ()
    version = 0 if tensor.is_inference() else tensor._version
    if not tensor.is_cpu:
        return version, address_of(tensor)
    whole = is_read or tensor.dim() < 2 or tensor.is_inference()
    return version, address_of(tensor), fingerprint(tensor, 0 if whole else 16)

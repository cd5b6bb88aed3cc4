"""The memory of one video stream: what it is of, and when it is given up.

Memory lives here and not in the layers, so that one model serves several
streams. It is only right for the weights that it was computed with:
:class:`WeightWatch` notices those that change while a stream goes on.

:class:`StreamPolicy` tells when a stream begins again by itself. Skipping
pays while a camera looks at one scene. At a cut, a change of light or a bump
of the camera nearly everything fires, and what is left of the memory is of
another picture: a reference frame costs no more, and is right. The papers
leave this open; all numbers here are ours.
"""

import copy
import operator
import weakref
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from mmskip.native import address_of, fingerprint
from mmskip.native import library as native

from .layer import SkipConvMixin
from .native_layer import NativeCall
from .reference import HeldMemory, SkipMemory

CallSite = tuple[str, int]

#: Pixels in each direction of the pictures that are compared, about.
THUMBNAIL = 96
#: They are compared in so many blocks in each direction, at most, and in
#: blocks of so many pixels of the frame, at least, for noise to average out.
MOST_BLOCKS = 16
BLOCK_PIXELS = 16
#: The contrast of an even picture, such as an empty road, is this share of
#: its range, so that a shift of its exposure is no cut.
RANGE_SHARE = 1 / 8
#: A block has changed if its mean moved by this share of the contrast.
BLOCK_STEP = 0.2

FIRST = 'first'
INTERVAL = 'interval'
CUT = 'cut'
BUSY = 'busy'


@dataclass(frozen=True)
class StreamPolicy:
    """Settings of when a stream takes a reference frame by itself.

    Args:
        reset_interval: Frames after which the stream restarts, however
            little changed; None for never.
        cut_share: A frame in which more than this share of the picture
            changed is a reference frame (scene cut, lights, gain, a bump);
            None for never.
        busy_share: While frames cost more than this share of a dense one,
            each is computed as a reference frame, densely; None for never.
        patience: Frames in a row that cost as much before that begins.
        look_again: Dense frames after which one frame skips again, to see
            whether the scene has calmed down.
        area: Share of the picture that can change, as only a region of it
            is watched.

    Raises:
        ValueError: A number is out of range.
    """

    reset_interval: int | None = None
    cut_share: float | None = 0.7
    busy_share: float | None = 0.75
    patience: int = 5
    look_again: int = 25
    area: float = 1.0

    def __post_init__(self) -> None:
        for name in ('cut_share', 'busy_share', 'area'):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(
                    f'expected {name} to be in (0, 1], got {value!r}'
                )
        for name in ('reset_interval', 'patience', 'look_again'):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(
                    f'expected {name} to be a positive int, got {value!r}'
                )


class PolicyMemory:
    """Remembers of a stream what its policy decides by.

    Args:
        policy: The settings.

    Attributes:
        is_busy: True while frames are computed densely because skipping
            saves nothing.
    """

    def __init__(self, policy: StreamPolicy) -> None:
        self.policy = policy
        self.is_busy = False
        self._last: _Thumbnail | None = None
        self._costly = 0
        self._dense = 0

    def decide(self, images: Tensor, frames: int) -> str | None:
        """Tell why the next frame is a reference frame, if it is one.

        Args:
            images: The frame, (N, C, H, W); one of streams in lock-step
                decides for all of them.
            frames: Frames since the last reference frame; 0 for none.

        Returns:
            The reason; None if the frame goes on.
        """
        cut = self._is_cut(images)
        if not frames:
            return FIRST
        if cut:
            return CUT
        if self.is_busy and self._dense < self.policy.look_again:
            self._dense += 1
            return BUSY
        interval = self.policy.reset_interval
        if interval is not None and frames >= interval:
            return INTERVAL
        return None

    def note_cost(self, share: float) -> None:
        """Take in what a frame that went on cost.

        Args:
            share: Of the MACs of a dense frame.
        """
        limit = self.policy.busy_share
        if limit is None:
            return
        self._dense = 0
        self._costly = self._costly + 1 if share > limit else 0
        # One costly frame is enough to go on as before.
        self.is_busy = self._costly >= (
            1 if self.is_busy else self.policy.patience
        )

    def _is_cut(self, images: Tensor) -> bool:
        """Compare the means of blocks with those of the frame before."""
        if self.policy.cut_share is None:
            return False
        # Few values: torch takes several threads for more, and waits.
        step = max(1, min(images.shape[2:]) // THUMBNAIL)
        grey = images.detach()[:, :, ::step, ::step].float()
        grey = grey.mean(1, keepdim=True)
        blocks = [
            max(1, min(MOST_BLOCKS, length // BLOCK_PIXELS))
            for length in images.shape[2:]
        ]
        picture = F.adaptive_avg_pool2d(grey, blocks)
        spread = F.adaptive_max_pool2d(grey, blocks) + F.adaptive_max_pool2d(
            -grey, blocks
        )
        now = _Thumbnail(
            picture.cpu().numpy(),
            (spread == 0).cpu().numpy(),
            float(max(grey.std(), (grey.max() - grey.min()) * RANGE_SHARE)),
        )
        before, self._last = self._last, now
        if before is None or before.picture.shape != now.picture.shape:
            return False
        limit = BLOCK_STEP * max(now.contrast, before.contrast)
        changed = np.abs(now.picture - before.picture) > limit
        shown = now.shown() | before.shown()
        share = self.policy.cut_share * self.policy.area
        counts = (changed & shown).sum((1, 2, 3)), shown.sum((1, 2, 3))
        return bool((counts[0] > share * counts[1]).any())


class _Thumbnail(NamedTuple):
    """Holds what is compared of a frame.

    Attributes:
        picture: (N, 1, h, w), the means of blocks.
        is_flat: Bool, the same; True for blocks of one value.
        contrast: Standard deviation of the frame, or a share of its range.
    """

    picture: np.ndarray
    is_flat: np.ndarray
    contrast: float

    def shown(self) -> np.ndarray:
        """Tell the picture from the bars of a letterbox, bool (N, 1, h, w).

        Bars are rows and columns of one value, from the borders on.
        """
        shown = np.ones_like(self.is_flat)
        for axis in (2, 3):
            first = np.take(self.picture, [0], 5 - axis)
            same = (self.is_flat & (self.picture == first)).all(
                5 - axis, keepdims=True
            )
            ahead = np.logical_and.accumulate(same, axis)
            behind = np.flip(
                np.logical_and.accumulate(np.flip(same, axis), axis), axis
            )
            shown &= ~(ahead | behind)
        return shown


def find_images(args: tuple, kwargs: Mapping[str, Any]) -> Tensor | None:
    """Find the images (N, C, H, W) among the arguments of a forward."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor) and value.dim() == 4:
            return value
    return None


def count_images(
    args: tuple, kwargs: Mapping[str, Any], num_frames: int = 1
) -> int | None:
    """Count the images, or windows, among the arguments of a forward.

    Args:
        args: A tensor among them has a batch of images (N, ...), or of
            several windows each, (N, windows, C, T, H, W).
        kwargs: The same.
        num_frames: Frames of a clip in the batch. With several, five
            dimensions may be those of clips (N, T, C, H, W), or of windows.

    Returns:
        Their number; None if there is no such tensor, or it cannot be told.
    """
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor) and value.dim() > 1:
            if value.dim() == 5 and num_frames > 1:
                return None
            return value.shape[: 2 if value.dim() > 5 else 1].numel()
    return None


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
            :class:`StreamPolicy`; None if it was not, or nobody asked.
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
        self._attended: dict[CallSite, int] = {}
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

    @property
    def is_in_midst(self) -> bool:
        """True in a reference frame that the policy put among others."""
        return self.watch is not None and self.restart not in (None, FIRST)

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
        self._attended.clear()
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

    def recall_attention(self, site: CallSite) -> Any:
        """Give what attention returned in the frame before, else None.

        Which tokens have changed is known from one frame to the next only.
        """
        if self._attended.get(site) != self.frames - 1:
            return None
        return self.attention.get(site)

    def keep_attention(self, site: CallSite, kept: Any) -> None:
        """Remember what attention returned in this frame."""
        self.attention[site] = kept
        self._attended[site] = self.frames

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
        """Tell if these masks are those of the last calls at their sites."""
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
    """Notes what dicts hold under some keys, to tell if it is still there.

    A plan asks this in every frame for each setting of each layer. A Python
    loop over hundreds of them would cost as much as a small network, so
    ``map`` calls ``dict.get`` and ``is`` from C.

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

"""The memory of one video stream."""

import copy
import weakref
from collections.abc import Collection
from typing import Any

from torch import Tensor, nn

from mmskip.ops import SkipMemory
from mmskip.ops.native_call import NativeCall

from .weight_watch import WeightWatch

CallSite = tuple[str, int]


class StreamState:
    """What a model remembers of one video, or of B videos in lock-step.

    Memory is kept per call site, (layer name, n-th call in this frame): a
    head shared by pyramid levels, or a network that runs twice a frame for
    a flip test, has one slot for each use.

    Attributes:
        frames: Frames seen since the last reset.
        shape_changes: How often a call site met an input of another shape,
            dtype or device and became a reference frame again.
        weight_changes: How often one did because the weights of its layer
            had changed.
        slots: The memory of each call site.
        last_images: The last frame in grey, (N, H, W), where motion is
            compensated.
        lost_motion: Frames of streams whose motion could not be estimated,
            and was taken for none.
        plans: What parts of the model with a forward of their own keep, by
            that forward and the number of its call in a frame.
        watch: What would notice weights that change; None before the first
            frame, and in copies, which trust the weights that they find.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.shape_changes = 0
        self.weight_changes = 0
        self.slots: dict[CallSite, SkipMemory] = {}
        self.last_images: Any = None
        self.lost_motion = 0
        self.plans: dict[tuple[Any, int], Any] = {}
        self.watch: WeightWatch | None = None
        self._masks: dict[CallSite, Tensor] = {}
        self._calls: dict[CallSite, NativeCall] = {}
        self._planned_for: weakref.ref[nn.Module] | None = None
        self._owner: weakref.ref[nn.Module] | None = None

    def reset(self) -> None:
        """Forget the video: the next frame is a reference frame.

        The memory of plans stays, and is used again by the next video of
        the same model and size; drop the state to free it.
        """
        self.frames = 0
        self.shape_changes = 0
        self.weight_changes = 0
        self.slots.clear()
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
            for kept in (self.slots, self._masks, self._calls):
                kept.pop(site, None)

    @property
    def nbytes(self) -> int:
        """Bytes held by the memory of all call sites and parts."""
        slots = sum(slot.nbytes for slot in self.slots.values())
        plans = self.plans.values()
        return slots + sum(plan.memory_beside(self.slots) for plan in plans)

    def last_masks(self) -> dict[CallSite, Tensor]:
        """Which outputs each call site computed in its last call.

        Returns:
            Bool (N, 1, H_out, W_out) per call site; (N, 1, T, H, W) for 3-D
            convolutions. All ones in a reference frame.
        """
        return {site: mask.clone() for site, mask in self._masks.items()}

    def last_mask(self, site: CallSite) -> Tensor | None:
        """What a call site computed, no copy."""
        return self._masks.get(site)

    def recall(self, site: CallSite, x: Tensor) -> SkipMemory | None:
        """The memory of a call site if ``x`` continues it, else None."""
        memory = self.slots.get(site)
        if memory is not None and not memory.fits(x):
            self.shape_changes += 1
            return None
        return memory

    def keep(self, site: CallSite, memory: SkipMemory, mask: Tensor) -> None:
        """Remember what a call site computed."""
        # A memory that was updated in place is here already.
        if self.slots.get(site) is not memory:
            self.slots[site] = memory.detach()
        self._masks[site] = mask

    def prepared(self, site: CallSite) -> NativeCall | None:
        """What was prepared for the next frames of a call site."""
        return self._calls.get(site)

    def prepare(self, site: CallSite, call: NativeCall | None) -> None:
        """Keep what runs the next frames of a call site."""
        if call is None:
            self._calls.pop(site, None)
        else:
            self._calls[site] = call

    def note(self, site: CallSite, mask: Tensor) -> None:
        """Remember what was computed by a call that was prepared."""
        self._masks[site] = mask

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

"""``stream`` and ``clip``: run a converted model over video.

Inside these blocks a *binding* runs the converted layers of a model:
:class:`StreamBinding` gives each call of a layer the memory of the frame
before, :class:`ClipBinding` computes clips and remembers nothing.
Symbols: B streams or clips, T frames of each, folded clip-major: (B*T, ...).
"""

import operator
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from mmskip.core import (
    GateCost,
    SelfCounting,
    follow_layout,
    follow_mode,
    refuse_bypasses,
)
from mmskip.core.counting import TransientHook, around_forward
from mmskip.native import active_backend, is_exact_inference, is_in_backward
from mmskip.native import library as native
from mmskip.reading import InputError

from .attention import attend, attend_again, window_macs
from .conversion import LateCosts
from .kept_attention import Attend, AttentionInputs, KeptAttention
from .layer import SkipConvMixin, run_frames, unfold
from .linear import SkipLinearMixin, route_to_layers
from .motion import MotionFollower
from .reference import ClipMemory
from .state import (
    CallSite,
    StreamState,
    WeightWatch,
    count_images,
    find_images,
)

#: What clips in training go on from, by call site.
ClipState = dict[CallSite, ClipMemory]


def _swap(x: Tensor, rows: int, columns: int) -> Tensor:
    """Swap the inner two of the dimensions (B * rows * columns, ...)."""
    x = unfold(x, rows * columns).unflatten(1, (rows, columns))
    return x.transpose(1, 2).flatten(0, 2)


class Binding:
    """Ties the converted layers of a model to one way of running them.

    Args:
        model: A converted model.

    Raises:
        ValueError: The model has no converted layer.
        RuntimeError: The model is in a stream or clip already.
        InputError: A layer is computed past its forward.
    """

    num_frames = 1

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.names = {
            module: name
            for name, module in model.named_modules()
            if isinstance(module, SelfCounting)
        }
        if not self.names:
            raise ValueError(
                'expected a model with converted layers, got '
                f'{type(model).__name__} without any; call mmskip.convert() '
                "on it, or build it with type='mmskip.ConvertedModel'"
            )
        if any(module._binding is not None for module in self.names):
            raise RuntimeError(
                'this model is inside a stream or clip already; leave that '
                "block first (for several cameras open each camera's "
                'StreamState in turn)'
            )
        refuse_bypasses(model, set(self.names))
        #: Images (of a network of clips: clips) in this forward.
        self.images: int | None = None
        self._handles: list[Any] = []

    def __enter__(self) -> 'Binding':
        self._handles = around_forward(
            self.model, lambda *_: self.begin(), lambda *_: self.end()
        )
        if any(isinstance(module, SkipLinearMixin) for module in self.names):
            self._handles += self._watch_images()
        self._handles += route_to_layers(self.names)
        for module in self.names:
            module._binding = self
        return self

    def __exit__(self, *_: Any) -> None:
        for handle in self._handles:
            handle.remove()
        for module in self.names:
            del module._binding

    def _watch_images(self) -> list[Any]:
        """Let each forward tell how many images its tokens are of.

        Tokens alone do not: windows of all images come in one batch.
        """

        def begin(_: nn.Module, args: tuple, kwargs: dict) -> None:
            self.images = count_images(args, kwargs, self.num_frames)

        def enter(_: nn.Module, inputs: tuple) -> None:
            if self.images is None and inputs:
                self.images = len(inputs[0])

        root = self.model.register_forward_pre_hook(
            TransientHook(begin), with_kwargs=True
        )
        convs = [m for m in self.model.modules() if isinstance(m, _ConvNd)]
        hook = TransientHook(enter)
        return [root, *(m.register_forward_pre_hook(hook) for m in convs)]

    def begin(self) -> None:
        """Note that a forward of the whole model starts."""

    def end(self) -> None:
        """Note that it has ended, normally or not."""

    def run(self, layer: SkipConvMixin, x: Tensor) -> Tensor:
        """Compute a converted layer's output, laid out as the layer's own.

        Raises:
            ValueError: ``x`` has no batch dimension.
        """
        expected = layer.dims
        if x.dim() != expected:
            raise ValueError(
                f'{self.names[layer]}: expected a batch of {expected} '
                f'dimensions inside a stream or clip, got {tuple(x.shape)}'
            )
        images = self.images or len(x)
        if self.num_frames == 1 or len(x) <= images or len(x) % images:
            return follow_layout(self._run(layer, x), x, layer.weight)
        # Frames of a window or heads of attention: each is a stream.
        of_each = len(x) // images
        output = self._run(layer, _swap(x, self.num_frames, of_each))
        output = _swap(output, of_each, self.num_frames)
        return follow_layout(output, x, layer.weight)

    def name_around(self, layer: nn.Module) -> str:
        """Name the module that a layer is a child of."""
        return self.names[layer].rpartition('.')[0]

    def attend(
        self, layer: SkipConvMixin, qkv: Tensor, *options: Any
    ) -> Tensor:
        """Compute attention within windows; see :func:`.attention.attend`.

        Args:
            layer: The layer that has returned ``qkv``.
            qkv: Its result (W, N, 3 * C) for the tokens of W windows.
            *options: What else :func:`.attention.attend` takes.
        """
        name = self.name_around(layer)
        if isinstance(qkv, Tensor):
            macs = window_macs(qkv)
            self.count_products(name, macs, macs)
        return attend(qkv, *options, name=name)

    def reuse(
        self,
        layers: Sequence[SkipConvMixin],
        inputs: AttentionInputs,
        attend: Attend,
        in_blocks: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Compute the attention of queries to keys.

        Args:
            layers: Layers that made queries, keys and values.
            inputs: What they made, and all else that it depends on.
            attend: Function that computes it, see :class:`KeptAttention`.
            in_blocks: True if keys may be taken block by block.

        Returns:
            Output (N, heads, L, C), and the weights if they are asked for.
        """
        macs = inputs.products
        self.count_products(self.name_around(layers[0]), macs, macs)
        return attend(inputs)

    @property
    def ledger(self) -> Any:
        """Ledger in which MACs are counted, or None."""
        return next(iter(self.names))._ledger

    def count_products(self, name: str, dense: int, executed: int) -> None:
        """Count the products of an attention, if MACs are counted.

        Args:
            name: Name of the attention.
            dense: MACs of all products.
            executed: MACs of those that were computed.
        """
        if self.ledger is not None:
            self.ledger.record_products(name, dense, executed)

    def _run(self, layer: SkipConvMixin, x: Tensor) -> Tensor:
        raise NotImplementedError


class StreamBinding(Binding):
    """Keeps memory from one forward of the model to the next.

    Args:
        model: A converted model.
        state: State that keeps the memory.
        num_frames: Consecutive frames of each stream in one batch.

    Attributes:
        goes_on: True in a reference frame that the policy put among others,
            if no weight has changed: what was made of them is still right.
    """

    def __init__(
        self, model: nn.Module, state: StreamState, num_frames: int = 1
    ) -> None:
        super().__init__(model)
        self._told: set[str] = set()
        if active_backend() == 'reference' and native.MISSING:
            self._tell_slow(native.MISSING)
        state.claim(model)
        self.state = state
        self.num_frames = num_frames
        self.restarts: frozenset[int] = frozenset()
        self._calls: dict[nn.Module, int] = {}
        self.goes_on = False
        self._in_forward = False
        self._native = False
        self._executed = 0
        self._dense = 0

    def __enter__(self) -> 'StreamBinding':
        policy = self.model.register_forward_pre_hook(
            TransientHook(self._follow_policy), with_kwargs=True
        )
        super().__enter__()
        self._handles += [policy, *MotionFollower(self).attach()]
        return self

    def switch(self, state: StreamState) -> None:
        """Go on with another stream: its state keeps the memory from now on.

        Raises:
            RuntimeError: A forward of the model is under way.
            ValueError: The state holds another model's memory.
        """
        if self._in_forward:
            raise RuntimeError(
                'expected to change streams between two frames, not in one'
            )
        state.claim(self.model)
        self.state = state

    def _follow_policy(self, _: nn.Module, args: tuple, kwargs: dict) -> None:
        """Let the stream begin again, before anything of a frame is done."""
        if self.state.policy is None:
            return
        if self.num_frames != 1:
            raise InputError(
                'expected one frame per forward for a stream with a policy, '
                f'got {self.num_frames}; use batch_size=1 in val_dataloader '
                'and test_dataloader, and stream(num_frames=1)'
            )
        images = find_images(args, kwargs)
        if images is not None:
            self.state.follow_policy(images)

    @property
    def counts_cost(self) -> bool:
        """True if the policy wants to know what this frame costs."""
        state = self.state
        return state.policy is not None and state.restart is None

    def note_cost(self, executed: int, dense: int) -> None:
        """Add MACs of this frame, and those of a dense one."""
        self._executed += executed
        self._dense += dense

    def begin(self) -> None:
        """Begin a frame: notice new weights, and count calls anew."""
        self.state.claim(self.model)  # anew, after a reset in mid-stream
        self._calls.clear()
        wanted = active_backend() == 'native'
        self._native = wanted and is_exact_inference()
        if wanted and torch.is_grad_enabled():
            self._tell_slow(
                'gradients are enabled; use torch.no_grad() or '
                'torch.inference_mode() around it'
            )
        elif wanted and not self._native:
            self._tell_slow(
                'autocast is enabled; the native backend computes in float32 '
                'only, leave autocast to be faster'
            )
        self._follow_weights()
        self._in_forward = True

    def _follow_weights(self) -> None:
        """Let layers whose weights have changed start anew.

        Their memory is of the old ones, and would stay where nothing moves.
        """
        state = self.state
        begins = not state.frames
        changed = set() if state.watch is None else state.watch.changed()
        gates = {group.layer for group in changed if group.is_gate}
        for layer, name in self.names.items():
            if begins or name in gates:
                layer.gate.refresh()
        state.forget({p.layer for p in changed if not p.is_gate})
        self.goes_on = state.is_in_midst and not changed
        if (
            state.watch is not None
            and state.watch.is_native == self._native
            and not changed
        ):
            return
        state.watch = WeightWatch(self.names, self._native)
        if self._native:
            self._tell_moved()

    def _tell_moved(self) -> None:
        """Say which layers have left where the native backend runs."""
        home = torch.float32, torch.device('cpu')
        reasons = Counter(
            layer.native_refusal()
            for layer in self.names
            if layer.native_refusal() and not layer.native_refusal(*home)
        )
        if reasons:
            counts = ', '.join(f'{n} {why}' for why, n in reasons.items())
            self._tell_slow(
                f'of {len(self.names)} layers {counts}; the native backend '
                'takes float32 on the CPU'
            )

    def _tell_slow(self, why: str) -> None:
        """Warn, once in a stream, that nothing is saved."""
        if why not in self._told:
            self._told.add(why)
            warnings.warn(
                'Skip-Convolutions run on the torch reference, which saves '
                f'no time: {why}',
                stacklevel=3,
            )

    def end(self) -> None:
        self._in_forward = False
        self.state.frames += self.num_frames
        self.state.note_cost(self._executed, self._dense)
        self._executed = self._dense = 0

    @property
    def is_plain(self) -> bool:
        """True if the native operator runs one frame of each stream."""
        return self._native and self.num_frames == 1 and not self.restarts

    def next_call(self, module: nn.Module, name: str) -> CallSite:
        """Count a call of a module, whose name is given, in this frame.

        Raises:
            RuntimeError: No forward of the model is under way.
        """
        if not self._in_forward:
            raise RuntimeError(
                f'{name} was called inside a stream but outside '
                "the model's forward, so frames cannot be told apart; call "
                'the model itself, or open the stream on the part you call'
            )
        number = self._calls.get(module, 0)
        self._calls[module] = number + 1
        return name, number

    @property
    def in_forward(self) -> bool:
        """True while a forward of the model is under way."""
        return self._in_forward

    def has_counted(self, calls: Mapping[nn.Module, int]) -> bool:
        """Tell if layers were called so often in this frame."""
        counted = map(self._calls.get, calls, repeat(0))
        return all(map(operator.eq, counted, calls.values()))

    def calls_of(self, layer: SkipConvMixin) -> int:
        """Tell how often a layer was called in this frame."""
        return self._calls.get(layer, 0)

    def site_of(self, layer: SkipConvMixin) -> CallSite:
        """Name the call site of the last call of a layer in this frame."""
        return self.names[layer], self._calls[layer] - 1

    def count(self, calls: Mapping[nn.Module, int]) -> None:
        """Count calls that are made elsewhere."""
        if self._calls.keys().isdisjoint(calls):  # no Python loop
            self._calls.update(calls)
            return
        for module, number in calls.items():
            self._calls[module] = self._calls.get(module, 0) + number

    def _run(self, layer: SkipConvMixin, x: Tensor) -> Tensor:
        site = self.next_call(layer, self.names[layer])
        if self.is_plain:
            done = layer.run_prepared(self.state.prepared(site), x)
            if done is not None:
                self.state.note(site, done[1])
                self._count_cost(layer, x, done[1])
                return done[0]
        first = x if self.num_frames == 1 else x[:: self.num_frames]
        memory = self.state.recall(site, first)
        output, mask, memory = run_frames(
            layer, x, self.num_frames, memory, self.restarts
        )
        self.state.keep(site, memory, mask)
        self._count_cost(layer, x, mask)
        memory = self.state.slots[site]
        call = layer.prepare(x, memory) if self.is_plain else None
        self.state.prepare(site, call)
        return output

    def attend(
        self, layer: SkipConvMixin, qkv: Tensor, *options: Any
    ) -> Tensor:
        """Compute the windows in which a token was computed anew."""
        is_traced = not isinstance(qkv, Tensor)
        if is_traced or self.num_frames > 1 or torch.is_grad_enabled():
            return super().attend(layer, qkv, *options)
        site = self.site_of(layer)
        changed = self.state.last_mask(site).reshape(len(qkv), -1).any(1)
        kept = self.state.recall_attention(site)
        if kept is None:
            changed = torch.ones_like(changed)
        kept = attend_again(kept, changed, qkv, *options)
        self.state.keep_attention(site, kept)
        if self.ledger is not None:
            dense = window_macs(qkv)
            executed = window_macs(qkv[:1]) * int(changed.sum())
            self.count_products(self.name_around(layer), dense, executed)
        return kept

    def reuse(
        self,
        layers: Sequence[SkipConvMixin],
        inputs: AttentionInputs,
        attend: Attend,
        in_blocks: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Compute it again where something changed, see the layer."""
        if self.num_frames > 1 or not is_exact_inference():
            return super().reuse(layers, inputs, attend, in_blocks)
        sites = [self.site_of(layer) for layer in layers]
        samples = len(inputs.query)
        queries, keys, values = (
            self.state.last_mask(site).reshape(samples, -1) for site in sites
        )
        kept = KeptAttention.of(
            self.state.recall_attention(sites[0]),
            inputs,
            (queries, keys | values),
            attend,
            in_blocks,
        )
        self.state.keep_attention(sites[0], kept)
        name = self.name_around(layers[0])
        self.count_products(name, inputs.products, kept.macs)
        weights = kept.weights
        return kept.output, None if weights is None else weights.clone()

    def _count_cost(
        self, layer: SkipConvMixin, x: Tensor, mask: Tensor
    ) -> None:
        if self.counts_cost:
            dense, per_output, overhead = layer.frame_macs(x.shape, mask)
            computed = int(mask.sum())
            self.note_cost(computed * per_output + overhead, dense)


class ClipBinding(Binding):
    """Starts every call with a reference frame and remembers nothing.

    In training all frames of a clip are computed together, and what the
    gates cost is collected for a loss; otherwise one after the other.

    Args:
        model: A converted model.
        num_frames: Frames T of a clip; batches are (B*T, C, H, W).
        state: What clips in training go on from; None begins each with a
            reference frame.

    Attributes:
        costs: Costs of each call in the last forward, in training.
    """

    def __init__(
        self,
        model: nn.Module,
        num_frames: int,
        state: ClipState | None = None,
    ) -> None:
        super().__init__(model)
        self.num_frames = num_frames
        self._state = state
        self._calls: Counter[SkipConvMixin] = Counter()
        self.costs: list[GateCost] = []
        self._late = LateCosts()
        self._wants_gradients = False

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._late.close()
        if error[0] is None:
            self._late.check(self.names)

    def begin(self) -> None:
        self.costs = []
        self._calls.clear()
        self._wants_gradients = torch.is_grad_enabled()
        for layer in self.names:
            follow_mode(layer, self.model.training)
            layer.gate.refresh()
        if any(getattr(m, 'motion', None) is not None for m in self.names):
            raise RuntimeError(
                'expected a model without motion compensation in a clip: it '
                'is for streams; train without it, it has no parameters'
            )

    def end(self) -> None:
        self._wants_gradients = False

    def _run(self, layer: SkipConvMixin, x: Tensor) -> Tensor:
        # The model tells, as a frozen stage is in eval mode, and a block that
        # is run again for its gradients has none at first.
        trains = self.model.training and (
            self._wants_gradients or torch.is_grad_enabled()
        )
        alone = self.num_frames == 1 and self._state is None
        if not trains or alone:
            return run_frames(layer, x, self.num_frames, None)[0]
        frames = unfold(x, self.num_frames)
        if self._state is None:
            output, cost, _ = layer.skip_clip(frames)
        else:
            output, cost = self._go_on(layer, frames)
        if is_in_backward():
            # Activation checkpointing: the loss has had the cost already.
            output = self._late.settle(layer, output, cost)
        elif torch.is_grad_enabled():
            self.costs.append(cost)
        else:
            self.costs.append(self._late.put_off(layer, cost))
        return output.flatten(0, 1)

    def _go_on(
        self, layer: SkipConvMixin, frames: Tensor
    ) -> tuple[Tensor, GateCost]:
        if is_in_backward():
            raise InputError(
                f'{self.names[layer]}: expected a model without activation '
                'checkpointing in clips that go on from others, got one that '
                'computes layers again; set with_cp=False'
            )
        site = self.names[layer], self._calls[layer]
        self._calls[layer] += 1
        memory = self._state.get(site)
        output, cost, after = layer.skip_clip(frames, memory, keep=True)
        if after is None:
            raise InputError(
                f"{self.names[layer]}: expected memory='accumulated' and a "
                'gate that is learned, or absolute, to go on from one clip '
                'to the next; begin each clip with a reference frame (no '
                'state)'
            )
        self._state[site] = after
        return output, cost


@contextmanager
def stream(
    model: nn.Module, state: StreamState | None = None, num_frames: int = 1
) -> Iterator[StreamState]:
    """Show a converted model one video, forward by forward.

    Every forward of ``model`` is the next frame; the first one is the
    reference frame. A batch of B images is B streams in lock-step. A model
    is in one stream at a time; for several cameras give each its own state
    and open them in turn. For parallel threads, copy the model.

    Frames have to be finite, which is not checked here: a NaN would stay
    until the next reference frame where the memory is ``previous``.

    Args:
        model: A converted model, in eval mode.
        state: State that keeps the memory; a new one, which dies with the
            block, if not given.
        num_frames: Consecutive frames of each stream in one batch,
            clip-major: (B*num_frames, C, H, W).

    Yields:
        The state.

    Raises:
        ValueError: Nothing is converted, ``num_frames`` < 1, or the state
            holds another model's memory.
        RuntimeError: The model is inside a stream or clip already.
    """
    _check_frames(num_frames)
    state = StreamState() if state is None else state
    with StreamBinding(model, state, num_frames):
        yield state


@contextmanager
def streams(model: nn.Module) -> Iterator[Callable[[StreamState], None]]:
    """Show a converted model several videos, a frame of this, one of that.

    It is :func:`stream` for many cameras, without the milliseconds that
    leaving and entering the block would take at each frame::

        with streams(model) as switch:
            switch(door)
            model(frame_of_door)
            switch(yard)
            model(frame_of_yard)

    Args:
        model: A converted model, in eval mode.

    Yields:
        Switch to the stream of a state, between two forwards. Until it is
        called for the first time, frames are of a stream of their own.

    Raises:
        ValueError: Nothing is converted.
        RuntimeError: The model is inside a stream or clip already.
    """
    with StreamBinding(model, StreamState()) as binding:
        yield binding.switch


@contextmanager
def clip(
    model: nn.Module, num_frames: int, state: ClipState | None = None
) -> Iterator[ClipBinding]:
    """Run a converted model over whole clips, in training or inference.

    Outputs and MACs equal those of a stream over the clip's frames. No
    memory is kept between calls, unless there is a state.

    Args:
        model: A converted model.
        num_frames: Frames T per clip; inputs are (B*T, C, H, W), clip-major.
        state: An empty dict, that keeps the memory from one training step
            to the next: the clips of the next step have to be those that
            follow in the same videos.

    Yields:
        What ties the model to the clips; its ``costs`` are those of the
        gates in the last forward in training.

    Raises:
        ValueError: Nothing is converted, or ``num_frames`` < 1.
        RuntimeError: The model is inside a stream or clip already.
    """
    _check_frames(num_frames)
    with ClipBinding(model, num_frames, state) as binding:
        yield binding


def _check_frames(num_frames: int) -> None:
    if not isinstance(num_frames, int) or num_frames < 1:
        raise ValueError(
            f'expected num_frames to be a positive int, got {num_frames!r}'
        )

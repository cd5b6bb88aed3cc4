"""``compile_stream``: two graphs, of reference frames and of later ones.

The layers of a compiled part are traced through a tape, which hands them
their memory in the order in which they run. Memory and packed kernels are
inputs of the graph: other streams, resets and new weights run on the same.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmskip.layers import SkipConvMixin
from mmskip.ops import SkipMemory, native

from .bindings import StreamBinding
from .state import CallSite, StreamState
from .stream_forward import (
    StreamForward,
    check_convertible,
    shapes_of,
    skip_convs,
    tensors_of,
)
from .tapes import FirstFrameTape, NextFrameTape, Tape

#: Whether graphs of one model are kept from those of another.
ISOLATES = 'isolate_recompiles' in inspect.signature(torch.compile).parameters
Shapes = tuple[tuple[torch.Size, torch.dtype], ...]


def _play(
    module: nn.Module,
    binding: StreamBinding,
    tape: Tape,
    args: tuple,
    kwargs: dict,
) -> Any:
    binding.tape = tape
    try:
        return type(module).forward(module, *args, **kwargs)
    finally:
        binding.tape = None


def _first_frame(
    module: nn.Module, binding: StreamBinding, args: tuple, kwargs: dict
) -> tuple[Any, list]:
    tape = FirstFrameTape()
    result = _play(module, binding, tape, args, kwargs)
    return result, tape.records


def _next_frame(
    module: nn.Module,
    binding: StreamBinding,
    calls: Sequence[tuple],
    args: tuple,
    kwargs: dict,
) -> tuple[Any, list[Tensor]]:
    tape = NextFrameTape(calls)
    result = _play(module, binding, tape, args, kwargs)
    return result, tape.masks


class Plan(NamedTuple):
    """The calls of a compiled part in one frame, in their order.

    Attributes:
        shapes: Of the inputs of the part.
        calls: Where the memory of each call is, what is called, and the
            shape of its input.
        counts: How often each layer is called.
    """

    shapes: Shapes
    calls: tuple[tuple[CallSite, SkipConvMixin, torch.Size], ...]
    counts: Counter[SkipConvMixin]

    def memory_beside(self, slots: dict[CallSite, SkipMemory]) -> int:
        """Bytes that it keeps beside the slots of a stream."""
        return 0


class CompiledForward(StreamForward):
    """The forward of a module of which :func:`compile_stream` was asked.

    Args:
        module: Whose forward it is.
        backend: Of ``torch.compile``.
        options: Of the backend.
    """

    def __init__(
        self,
        module: nn.Module,
        backend: str | Callable,
        options: dict[str, Any] | None,
    ) -> None:
        super().__init__(module)
        self.backend = backend
        self.options = options

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        layer = self.layers[0]
        binding = layer._binding
        if (
            not isinstance(binding, StreamBinding)
            or not binding.is_plain
            or layer._ledger is not None
            or self.trains()
        ):
            return self.run_plain(*args, **kwargs)
        # No two parts have their first layer in common.
        site = binding.next_call(self.module, binding.names[layer])
        shapes = shapes_of((args, kwargs))
        plan = binding.state.plans.get(site)
        if plan is None or plan.shapes != shapes:
            result, plan = self._first_frame(binding, shapes, args, kwargs)
            binding.state.plans[site] = plan
            return result
        arguments = _arguments(binding.state, plan)
        if arguments is None:
            return self.run_plain(*args, **kwargs)
        return self._next_frame(binding, plan, arguments, args, kwargs)

    def _first_frame(
        self, binding: StreamBinding, shapes: Shapes, args: tuple, kwargs: dict
    ) -> tuple[Any, Plan]:
        run = self._graph(_first_frame)
        result, records = run(self.module, binding, args, kwargs)
        taken = {_address(leaf) for leaf in tensors_of((args, kwargs, result))}
        calls = []
        for layer, *images in records:
            site = binding.next_call(layer, binding.names[layer])
            x, output = (_own(image, taken) for image in images)
            binding.state.recall(site, x)  # counts a change of shape
            memory = layer.first_frame(x, output)
            mask = torch.ones_like(output[:, :1], dtype=torch.bool)
            binding.state.keep(site, memory, mask)
            binding.state.prepare(site, layer.next_frames(x, memory))
            calls.append((site, layer, x.shape))
        counts = Counter(layer for _, layer, _ in calls)
        return result, Plan(shapes, tuple(calls), counts)

    def _next_frame(
        self,
        binding: StreamBinding,
        plan: Plan,
        arguments: list[tuple],
        args: tuple,
        kwargs: dict,
    ) -> Any:
        run = self._graph(_next_frame)
        result, masks = run(self.module, binding, arguments, args, kwargs)
        binding.count(plan.counts)
        for (site, *_), mask in zip(plan.calls, masks, strict=True):
            binding.state.note(site, mask)
        return result

    def _graph(self, function: Callable) -> Callable:
        if function not in self._graphs:
            options, settings = dict(self.options or {}), {}
            if ISOLATES:
                settings['isolate_recompiles'] = True
                # Torch would look at every attribute of every module before
                # each frame, which took a tenth of a static frame's time.
                options.setdefault(
                    'guard_filter_fn',
                    torch.compiler.skip_guard_on_all_nn_modules_unsafe,
                )
            self._graphs[function] = torch.compile(
                function,
                fullgraph=True,
                dynamic=False,
                backend=self.backend,
                options=options,
                **settings,
            )
        return self._graphs[function]


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _own(image: Tensor, taken: set[int]) -> Tensor:
    """A tensor that nobody else has: compilers merge equal copies."""
    if _address(image) in taken:
        image = image.clone(memory_format=torch.channels_last)
    taken.add(_address(image))
    return image.contiguous(memory_format=torch.channels_last)


def _arguments(state: StreamState, plan: Plan) -> list[tuple] | None:
    """Of the native operator, by call; None if a setting has changed."""
    arguments = []
    for site, layer, shape in plan.calls:
        call = state.prepared(site)
        if not layer.has_next(call) or call.shape != shape:
            return None
        arguments.append(call.arguments)
    return arguments


def compile_stream(
    module: nn.Module,
    backend: str | Callable = 'inductor',
    options: dict[str, Any] | None = None,
) -> None:
    """Compile a converted module for streams, in place.

    ``with mmskip.stream(model)`` stays as it is, for the module or a model
    it is a part of. Its first frame traces one graph and its second frame
    another (seconds to minutes each, with inductor). Streams, frames, resets,
    new weights and thresholds after that compile nothing; other settings of
    gates and other input sizes do. Outputs and memory are those of the
    uncompiled stream.

    A frame runs uncompiled where the native backend does not run, in
    training mode, inside ``count_macs``, and once after a setting of a gate
    has changed. Hooks on modules inside are traced, and what else is changed
    of modules after that goes unnoticed. ``mmskip.revert`` undoes it.

    Args:
        module: Converted, in eval mode, e.g. ``model.backbone``. Its forward
            has to be one graph for torch, without branches on values.
        backend: Of ``torch.compile``.
        options: Of the backend. For the constant folding of inductor set
            ``torch._inductor.config.freezing`` instead, before the first
            frame: torch reads it while tracing, too.

    Raises:
        ValueError: Nothing is converted, a layer is none for the native
            backend, or a part is compiled already.
    """
    check_convertible(module)
    layers = skip_convs(module)
    refused = [layer.native_refusal() for layer in layers]
    if native.MISSING or any(refused):
        why = native.MISSING or next(filter(None, refused))
        raise ValueError(
            'expected layers that the native backend takes, got at least '
            f'one that it does not: {why}; leave it out of the conversion '
            '(exclude=...), or compile a part without it'
        )
    module.forward = CompiledForward(module, backend, options)

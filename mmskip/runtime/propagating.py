"""``propagate_changes``: each layer tells the next one what changed."""

from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree

from mmskip.layers import SkipConvMixin
from mmskip.ops import native

from .bindings import StreamBinding
from .change_graph import TraceError, trace
from .change_planner import Planner
from .change_record import record
from .stream_forward import (
    StreamForward,
    check_convertible,
    shapes_of,
    skip_convs,
    tensors_of,
)

#: What may be among the arguments of a graph.
_CONSTANTS = (bool, float, int, str, type(None))


class PropagatedForward(StreamForward):
    """The forward of a module of which :func:`propagate_changes` was asked.

    Args:
        module: Whose forward it is.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        binding = self.layers[0]._binding
        # The stream may be of a part of this module only.
        if not isinstance(binding, StreamBinding) or not binding.in_forward:
            return self.run_plain(*args, **kwargs)
        # No two parts have their first layer in common.
        site = binding.next_call(self.module, binding.names[self.layers[0]])
        plans = binding.state.plans
        inputs = tensors_of((args, kwargs))
        on_cpu = all(x.is_cpu for x in inputs)
        # Unless this frame ends well, what it knows is of an older one.
        plan = plans.pop(site, None)
        if not binding.is_plain or not on_cpu or self.trains():
            return self.run_plain(*args, **kwargs)
        key = _key(self.module, args, kwargs)
        if plan is not None and plan.key == key and plan.is_current(binding):
            result = plan.run(inputs)
            binding.count(plan.counts)
            for step in plan.convs:
                binding.state.note(step.site, step.mask)
            plans[site] = plan
            return result
        try:
            graph = self._graph(key, args, kwargs)
        except TraceError:
            self._leave_to_parts()
            return self.run_plain(*args, **kwargs)
        values, sites = record(graph, self.module, inputs, binding)
        planner = Planner(graph, self.module, values, sites, binding.state)
        plans[site] = planner.plan(key)
        return planner.result()

    def _graph(self, key: tuple | None, args: tuple, kwargs: dict) -> fx.Graph:
        if key is None:
            raise TraceError('what it gets is more than tensors and numbers')
        refused = [layer.native_refusal() for layer in self.layers]
        if any(refused):
            raise TraceError(f'of a layer: {next(filter(None, refused))}')
        if key not in self._graphs:
            self._graphs[key] = trace(self.module, args, kwargs)
        return self._graphs[key]

    def _leave_to_parts(self) -> None:
        del self.module.forward
        for child in self.module.children():
            _attach(child)


def _attach(module: nn.Module) -> None:
    """Replace the forward of a module, or of what is in a mere container."""
    if isinstance(module, SkipConvMixin) or not skip_convs(module):
        return
    if isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        for child in module.children():
            _attach(child)
    else:
        module.forward = PropagatedForward(module)


def _key(module: nn.Module, args: tuple, kwargs: dict) -> tuple | None:
    """What a graph is of; None if that cannot be told."""
    leaves, spec = _pytree.tree_flatten((args, kwargs))
    others = tuple(leaf for leaf in leaves if not torch.is_tensor(leaf))
    if not all(isinstance(leaf, _CONSTANTS) for leaf in others):
        return None
    return id(module), str(spec), shapes_of(leaves), others


def propagate_changes(module: nn.Module) -> None:
    """Let layers tell each other what changed inside streams, in place.

    ``with mmskip.stream(model)`` stays as it is, for the module or a model
    it is a part of; what it computes stays the same, to the last bit but for
    SiLU and means over all positions, and batch norms on CPUs that do not
    multiply and add at once, which are rounded differently. But what lies
    between Skip-Convolutions (sums, ReLUs, batch norms that were not folded,
    max pooling, enlarged images, and what else takes each position for
    itself) is computed only where an input changed, and a
    Skip-Convolution compares and writes only there: a static frame costs
    next to nothing. For that a stream keeps the results of what lies in
    between, too.

    The forward of the module is traced (``torch.fx``) at its first frame; of
    a module that cannot be traced, because its forward branches on values or
    gets more than tensors, the children are. What is no Skip-Convolution and
    no part of torch or mmcv is traced through: hooks on modules inside do
    not run, and what is changed of modules later, but for weights and the
    settings of gates, goes unnoticed. A frame runs as it did before where
    the native backend does not run, and in training mode. ``mmskip.revert``
    undoes it.

    Fold first (:func:`mmskip.fold`), convert before that.

    Args:
        module: Converted, in eval mode, e.g. a whole detector.

    Raises:
        ValueError: Nothing is converted, a forward is replaced already, or
            there is no native backend.
    """
    check_convertible(module)
    if native.MISSING:
        raise ValueError(
            f'expected a native backend, got none: {native.MISSING}'
        )
    _attach(module)

"""``accelerate``: a trained model in the form that runs fastest.

Inside a stream each layer then tells the next one what changed
(:func:`propagate_changes`).
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree

from mmskip.core import lay_kernels_last
from mmskip.native import active_backend
from mmskip.native import library as native
from mmskip.reading import InputError
from mmskip.skip_conv import (
    SkipConvMixin,
    SkipLinearMixin,
    StreamBinding,
    StreamState,
)
from mmskip.skip_conv.state import CallSite

from .dense import DenseReport, connect_low, is_low, pack_low, run_densely
from .fold import FoldReport, fold
from .graph import TraceError, apart, trace
from .lower import NotPlannedError, Planner
from .plan import Plan, Postponed
from .quantize import Calibration, apply_calibration
from .record import (
    FrameShapes,
    StreamForward,
    check_convertible,
    record,
    sites_of,
    skip_convs,
)
from .tokens import TokenPlanner

#: Types in which values of a plan are stored, by precision. In int8 layers
#: remember their inputs as bytes, and what they pass on is in bfloat16.
PRECISIONS = {
    'float32': torch.float32,
    'bfloat16': torch.bfloat16,
    'int8': torch.bfloat16,
}
#: Most kinds of arguments that a module keeps graphs for.
MOST_GRAPHS = 8
_CPU = torch.device('cpu')
#: Types that may be among the arguments of a graph, beside tensors.
_CONSTANTS = (bool, float, int, str, type(None))


class PropagationReport:
    """Tells what runs in plans and what does not, and why.

    It fills while frames run: nothing is known before the first one.

    Attributes:
        rows: For each module that asked for a plan, by name: the number of
            frames that ran in one, were recorded to make one, or ran without
            one, by reason.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Counter[str]] = {}

    def __str__(self) -> str:
        if not self.rows:
            return 'No frame of a stream has run since propagate_changes().'
        lines = ['Frames of streams, by part of the model:']
        for name, counts in self.rows.items():
            for what, number in counts.most_common():
                lines.append(
                    f'  {name or "(the whole model)"}: {number} {what}'
                )
        return '\n'.join(lines)


class AccelerationReport:
    """Tells what :func:`accelerate` did, and what has run in plans since.

    Attributes:
        folding: What was folded into the layers before it.
        plans: What runs in plans and what does not, and why; it fills while
            frames run. None if nothing can.
        notes: Reasons why the model is not as fast as it could be.
        dense: Layers that are not skipped, and in which precision they run;
            None if nothing was done to them.
        calibration: Layers in int8, and those that lose too much in it; None
            with another precision.
    """

    def __init__(
        self,
        folding: FoldReport,
        plans: PropagationReport | None,
        notes: Sequence[str],
        dense: DenseReport | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self.folding = folding
        self.plans = plans
        self.notes = list(notes)
        self.dense = dense
        self.calibration = calibration

    def __str__(self) -> str:
        parts = [self.folding, *self.notes]
        parts += [self.calibration, self.dense, self.plans]
        texts = [str(part) for part in parts if part is not None]
        return '\n'.join(filter(None, texts))


def accelerate(
    model: nn.Module,
    precision: str = 'float32',
    calibration: Calibration | str | Path | Iterable[Any] | None = None,
) -> AccelerationReport:
    """Turn a trained model into what runs fastest, in place.

    Kernels are laid channels last, and norms and activations are folded into
    the layers before them (:func:`mmskip.fold`). A converted model on the
    CPU with the native backend gets a plan: inside
    ``with mmskip.stream(model)`` each layer tells the next one what changed,
    and nothing else is computed, see
    :func:`mmskip.plan.propagate_changes`. There is no way back.

    A lower precision takes less memory, and less has to be moved. Layers with
    ``memory='accumulated'`` compute an output anew from what was transmitted,
    so errors of rounding do not build up. Parts with ``memory='previous'``, a
    running sum, stay in float32. Layers that are not converted (of a plain
    model, of the head on boxes of a two-stage detector) run densely in that
    precision, see :mod:`mmskip.plan.dense`. Results are in float32.

    Args:
        model: Any model in eval mode, converted or not.
        precision: ``float32``, ``bfloat16`` or ``int8``.
        calibration: For int8: about 16 frames, each the model's argument or
            a tuple of them, or what :func:`mmskip.plan.calibrate` made of
            such, or the path where it was saved.

    Returns:
        A report to be printed, best after some frames.

    Raises:
        InputError: The precision is another one, or cannot run here; int8
            without calibration, or that without int8; the model runs in a
            lower precision already.
        ValueError: A batch norm is in training mode; the model is accelerated
            already.
    """
    refusal = _why_no_plan(model)
    _check_precision(model, precision, calibration, refusal)
    if isinstance(calibration, (str, Path)):  # before any change
        calibration = Calibration.load(calibration)
    if not refusal:
        check_convertible(model)
    lay_kernels_last(model)
    folding = fold(model)
    notes = [f'no plan: {refusal}'] if refusal else []
    notes += _slow_instructions(precision)
    if calibration is not None:
        calibration = apply_calibration(model, calibration)
    dense, plans = None, None
    if precision != 'float32':
        dense = pack_low(model, calibration.in_int8() if calibration else {})
    elif refusal:
        dense = run_densely(model)
    if not refusal:
        plans = propagate_changes(model, PRECISIONS[precision])
    if precision != 'float32':
        connect_low(model, dense)
    return AccelerationReport(folding, plans, notes, dense, calibration)


def _check_precision(
    model: nn.Module, precision: str, calibration: Any, refusal: str
) -> None:
    """Refuse a precision that there is not, or not for this model.

    Args:
        model: That of :func:`accelerate`.
        precision: The same.
        calibration: The same.
        refusal: Why the model can have no plan.

    Raises:
        InputError: See :func:`accelerate`.
    """
    if precision not in PRECISIONS:
        raise InputError(
            f'expected precision to be one of {", ".join(PRECISIONS)}, got '
            f'{precision!r}'
        )
    why = refusal if skip_convs(model) else _why_not_here(model)
    if why and precision != 'float32':
        raise InputError(
            f'expected a model that can run in {precision!r}, got '
            f"one where {why}; use precision='float32'"
        )
    if (precision == 'int8') != (calibration is not None):
        raise InputError(
            "expected calibration with precision='int8' and with no other, "
            f'got {precision!r} and '
            f'{"none" if calibration is None else "one"}; give it about 16 '
            'frames, or the path of what `mmskip calibrate --precision int8` '
            'wrote'
        )
    if any(map(is_low, model.modules())):
        raise InputError(
            'expected a model that is not accelerated, got one in a lower '
            'precision; build it anew'
        )


def _slow_instructions(precision: str) -> list[str]:
    """Note what the CPU has no instructions for."""
    floats, halves, in_bytes = native.instruction_sets()
    if precision == 'bfloat16' and floats == halves:
        note = (
            'bfloat16 is stored as such and multiplied as float32: this CPU '
            f'has no instructions for it ({halves})'
        )
        return [note]
    if precision == 'int8' and in_bytes == 'portable':
        return ['int8 is multiplied one by one: this CPU has no AVX2']
    return []


def _why_no_plan(model: nn.Module) -> str:
    """Say why a model can have no plan; nothing if it can."""
    if not skip_convs(model):
        return 'no layer is a Skip-Convolution'
    if why := _why_not_here(model):
        return why
    if active_backend() != 'native':
        return 'the native backend does not run'
    return ''


def _why_not_here(model: nn.Module) -> str:
    if not all(parameter.is_cpu for parameter in model.parameters()):
        return 'the model is not on the CPU'
    return ''


def propagate_changes(
    module: nn.Module, dtype: torch.dtype = torch.float32
) -> PropagationReport:
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
    writes into its inputs, the children are. What is no Skip-Convolution and
    no part of torch or mmcv is traced through: hooks on modules inside do
    not run, and what is changed of modules later, but for weights, modes and
    the settings of gates, goes unnoticed.

    A stream keeps one plan for each call of a part, and makes another when
    the arguments have another size or other numbers; arguments that are
    others in each frame run without one, and no more than ``MOST_GRAPHS``
    graphs are kept. A frame of another kind (several frames in a batch,
    another dtype, an object among the arguments, a module in training mode,
    no native backend) runs as it did before, and the ones after it run in a
    plan again. A stream that is reset goes on with the plan that it has.
    ``mmskip.revert`` undoes it all.

    Fold first (:func:`mmskip.fold`), convert before that.

    Args:
        module: Converted module in eval mode, e.g. a whole detector.
        dtype: Type in which plans store images and kernels, float32 or
            bfloat16; see :func:`mmskip.accelerate`.

    Returns:
        A report, to be printed after some frames: which modules ran in
        plans, which did not, and why.

    Raises:
        ValueError: Nothing is converted, a forward is replaced already, or
            there is no native backend.
    """
    check_convertible(module)
    if native.MISSING:
        raise ValueError(
            f'expected a native backend, got none: {native.MISSING}'
        )
    report = PropagationReport()
    _attach(module, '', report, dtype)
    return report


class PropagatedForward(StreamForward):
    """Runs a module in plans, for :func:`propagate_changes`.

    Args:
        module: The module whose forward it is.
        name: Its name in the model.
        report: Report in which frames are counted.
        dtype: Type in which images and kernels are stored.
    """

    def __init__(
        self,
        module: nn.Module,
        name: str,
        report: PropagationReport,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(module)
        self._dtype = dtype
        self._graphs: OrderedDict[tuple, fx.Graph | str] = OrderedDict()
        self._shapes: dict[tuple, FrameShapes] = {}
        self._last_key: tuple | None = None
        self._left_to_children = False
        self._name = name
        self._report = report

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        binding = self.layers[0]._binding
        leaves, spec = _pytree.tree_flatten((args, kwargs))
        inputs = [leaf for leaf in leaves if torch.is_tensor(leaf)]
        # The stream may be of a part of this module only; and a tracer
        # passes no tensors.
        if (
            not isinstance(binding, StreamBinding)
            or not binding.in_forward
            or not inputs
        ):
            return self.run_plain(*args, **kwargs)
        _, number = binding.next_call(self.module, self._name)
        plans, site = binding.state.plans, (self, number)
        # Unless this frame ends well, what it knows is of an older one.
        plan = plans.pop(site, None)
        try:
            self._check_frame(binding, inputs)
            key = self._key(spec, leaves, inputs)
            known = plan is not None and plan.key == key
            if plan is not None and not known and not plan.runs:
                plans[site] = Postponed(key)
                raise NotPlannedError('other arguments in each frame')
            if not known or isinstance(plan, Postponed):
                plan = None
            goes_on = plan is not None and plan.is_current(binding)
            begins = (
                plan is not None and not goes_on and plan.is_new_video(binding)
            )
            if not (goes_on or begins):
                graph = self._graph(key, args, kwargs)
        except NotPlannedError as error:
            if isinstance(error, _LeftToChildrenError):
                self._attach_children()
            self._count(f'without a plan: {error}')
            return self.run_plain(*args, **kwargs)
        if goes_on:
            self._count('in a plan')
            result = plan.run(inputs, binding)
        elif begins:
            self._count('first frames of videos, in a plan')
            result = plan.restart(inputs, binding)
        else:
            result, plan = self._start(graph, key, inputs, binding)
        if plan is not None:
            plans[site] = plan
        return result

    def _count(self, what: str) -> None:
        self._report.rows.setdefault(self._name, Counter())[what] += 1

    def _start(
        self,
        graph: fx.Graph,
        key: tuple,
        inputs: Sequence[Tensor],
        binding: StreamBinding,
    ) -> tuple[Any, Plan | None]:
        """Compute a frame that continues no plan, and plan the next ones."""
        self._forget_children(binding)
        sites = sites_of(graph, self.module, binding)
        is_new = binding.state.slots.keys().isdisjoint(sites.values())
        plan = self._foresee(graph, key, sites) if is_new else None
        if plan is not None:
            self._count('first frames of videos, in a plan')
            return plan.restart(inputs, binding), plan
        result, plan = self._record(graph, key, inputs, sites, binding)
        if is_new and plan is not None and self._dtype != torch.float32:
            # As the first frames of other streams will be computed.
            result = plan.repeat(inputs)
        return result, plan

    def _record(
        self,
        graph: fx.Graph,
        key: tuple,
        inputs: Sequence[Tensor],
        sites: dict[fx.Node, CallSite],
        binding: StreamBinding,
    ) -> tuple[Any, Plan | None]:
        """Compute a frame node by node, and plan the next ones."""
        values = record(graph, self.module, inputs, sites, binding)
        shapes = FrameShapes(graph, values)
        planner = self._planner(sites)(
            graph, self.module, values, sites, binding.state, self._dtype
        )
        result = planner.result()
        try:
            plan = planner.plan(key)
            self._shapes[key] = shapes
            self._count('recorded for a plan')
            if planner.dtype != self._dtype:
                self._count(
                    "planned in float32: memory='previous' is a running sum, "
                    'and tokens are kept in it'
                )
        except NotPlannedError as error:
            plan = None
            self._count(f'without a plan: {error}')
        return result, plan

    def _foresee(
        self, graph: fx.Graph, key: tuple, sites: dict[fx.Node, CallSite]
    ) -> Plan | None:
        """Plan the first frame of a new stream, if its sizes are known.

        Returns:
            The plan, to be restarted; None if the frame is to be recorded.
        """
        shapes = self._shapes.get(key)
        if shapes is None:
            return None
        # The stream gets the memory once there is a frame in it.
        empty = StreamState()
        values = shapes.values(self.module)
        with apart():
            for node, site in sites.items():
                layer = self.module.get_submodule(node.target)
                made = layer.foresee(values[node.args[0]], values[node])
                if made is None:
                    return None
                empty.restore(site, *made)
        planner = self._planner(sites)(
            graph, self.module, values, sites, empty, self._dtype, True
        )
        try:
            return planner.plan(key)
        except NotPlannedError:
            return None

    def _planner(self, sites: Iterable[fx.Node]) -> type[Planner]:
        """Choose what plans a graph with these layers."""
        layers = (self.module.get_submodule(node.target) for node in sites)
        linear = any(isinstance(m, SkipLinearMixin) for m in layers)
        return TokenPlanner if linear else Planner

    def _forget_children(self, binding: StreamBinding) -> None:
        """Drop the plans of frames that ran in children."""
        within = set(self.module.modules())
        plans = binding.state.plans
        for forward, number in list(plans):
            if forward is not self and forward.module in within:
                del plans[forward, number]

    def _key(self, spec: Any, leaves: list, inputs: list[Tensor]) -> tuple:
        """Tell which graph and which plan a call has."""
        others = tuple(leaf for leaf in leaves if not torch.is_tensor(leaf))
        for other in others:
            if not isinstance(other, _CONSTANTS):
                raise _LeftToChildrenError(
                    f'an argument is a {type(other).__name__}'
                )
        shapes = tuple((x.shape, x.dtype) for x in inputs)
        return id(self.module), str(spec), shapes, others

    def _graph(self, key: tuple, args: tuple, kwargs: dict) -> fx.Graph:
        """Trace the module for arguments of a kind, or look the graph up."""
        for layer in self.layers:
            refusal = layer.native_refusal()
            if refusal and layer.native_refusal(torch.float32, _CPU):
                raise _LeftToChildrenError(f'a layer has {refusal}')
            if refusal:
                raise NotPlannedError(f'a layer has {refusal}')
        if key not in self._graphs:
            # Numbers that are others in each frame would fill the memory.
            if len(self._graphs) >= MOST_GRAPHS and self._last_key != key:
                self._last_key = key
                raise NotPlannedError(
                    f'arguments of more than {MOST_GRAPHS} kinds'
                )
            if len(self._graphs) >= MOST_GRAPHS:
                oldest, _ = self._graphs.popitem(last=False)
                self._shapes.pop(oldest, None)
            try:
                self._graphs[key] = trace(self.module, args, kwargs)
            except TraceError as error:
                self._graphs[key] = str(error)
        self._graphs.move_to_end(key)
        graph = self._graphs[key]
        if isinstance(graph, str):
            raise _LeftToChildrenError(graph)
        return graph

    def _attach_children(self) -> None:
        if self._left_to_children:
            return  # in most frames
        self._left_to_children = True
        for name, child in self.module.named_children():
            _attach(child, _join(self._name, name), self._report, self._dtype)

    def _check_frame(
        self, binding: StreamBinding, inputs: Sequence[Tensor]
    ) -> None:
        """Raise if a frame of this kind runs without a plan."""
        if binding.num_frames != 1 or binding.restarts:
            raise NotPlannedError('several frames of a stream in one batch')
        if not binding.is_plain:
            raise NotPlannedError(
                'the native backend does not run, see MMSKIP_BACKEND and '
                'torch.no_grad()'
            )
        if self.trains():
            raise NotPlannedError('a part is in training mode')
        if torch.is_autocast_enabled('cpu'):
            raise NotPlannedError('autocast is on')
        for x in inputs:
            if not x.is_cpu:
                raise NotPlannedError(f'an input is on {x.device}')
            if x.is_floating_point() and x.dtype != torch.float32:
                raise NotPlannedError(f'an input is {x.dtype}')

    def __getstate__(self) -> dict:
        left = dict(_graphs=OrderedDict(), _shapes={})
        return {**super().__getstate__(), **left}


class _LeftToChildrenError(NotPlannedError):
    """Says that a module has no plan, but that those in it may have one."""

    def __str__(self) -> str:
        return f'its parts may have some; {self.args[0]}'


def _attach(
    module: nn.Module,
    name: str,
    report: PropagationReport,
    dtype: torch.dtype,
) -> None:
    """Replace the forward of a module, or of what is in a mere container."""
    if (
        isinstance(module, SkipConvMixin)
        or not skip_convs(module)
        or 'forward' in module.__dict__
    ):
        return
    if isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        for child_name, child in module.named_children():
            _attach(child, _join(name, child_name), report, dtype)
    else:
        module.forward = PropagatedForward(module, name, report, dtype)


def _join(name: str, child: str) -> str:
    return f'{name}.{child}' if name else child

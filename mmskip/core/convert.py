"""``convert`` and ``revert``: change a model's layers in place.

A method says by a :class:`Conversion` which layers it can change and how;
what is common to all (names and patterns, checks before the first change, the
report, the way back, models built from configs, checkpoints with or without
learned gates) is here.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mmengine.logging import print_log
from mmengine.model import efficient_conv_bn_eval
from mmengine.registry import MODELS as ENGINE_MODELS
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.parallel import DistributedDataParallel

from mmskip.native import active_backend
from mmskip.reading import InputError
from mmskip.registry import MODELS, build_own

from .layer import Converted, SelfCounting

#: Why conversions leave a layer alone whose batch is no batch of frames.
ROI_REASON = (
    'in a RoI head, whose batch is boxes and not frames '
    '(roi_heads=True converts it all the same)'
)
_GATE = re.compile(r'(.+)\.gate\..+')
_WRAPPER = 'module.'


class Conversion(Protocol):
    """Tells :func:`convert` which layers a method can change, and how."""

    def survey(self, model: nn.Module) -> None:
        """Look at a model before its layers are asked for one by one."""

    def concerns(self, module: nn.Module) -> bool:
        """Tell if a module is of a kind that this conversion is about."""

    def refusal(self, name: str, module: nn.Module) -> str | None:
        """Say why a layer stays as it is, None if it can be converted."""

    def layers_of(self, name: str, module: nn.Module) -> list[str]:
        """Name the layers that a module becomes, mostly one: itself."""

    def apply(self, name: str, module: nn.Module) -> None:
        """Convert one layer in place."""

    def dense_products(self, model: nn.Module) -> dict[str, str]:
        """Say why attention is computed whole, by name, when all is done."""


class ConvConversion:
    """Shares among the conversions of convolutions what concerns them all."""

    def survey(self, model: nn.Module) -> None:
        """Look at a model first; most conversions need not."""

    def concerns(self, module: nn.Module) -> bool:
        """Tell if a module is of a kind that this conversion is about."""
        return isinstance(module, (_ConvNd, nn.Linear))

    def layers_of(self, name: str, module: nn.Module) -> list[str]:
        """Name the layers that a module becomes: itself."""
        return [name]

    def dense_products(self, model: nn.Module) -> dict[str, str]:
        """Say why attention is computed whole; most are for layers alone."""
        return {}


def refuse_unknown(
    module: nn.Module, known: Collection[type], beside: str = ''
) -> str | None:
    """Say why a module is no convolution that a method knows.

    Args:
        module: A convolution or linear layer.
        known: Classes that do nothing but convolve.
        beside: What else they are known for, such as ``', with a fixed
            padding'``.

    Returns:
        None if the module is of one of the classes, and computes as they do.
    """
    if isinstance(module, nn.Linear) and nn.Linear not in known:
        return 'not a convolution'
    if isinstance(module, _ConvTransposeNd) and type(module) not in known:
        return 'transposed convolution'
    if 'forward' in module.__dict__:
        return 'its forward is replaced on the instance'
    if type(module) not in known:
        kind = type(module).__name__
        does = 'multiply' if isinstance(module, nn.Linear) else 'convolve'
        return f'{kind} is not a class known to only {does}{beside}'
    return None


@dataclass
class ConversionReport:
    """Tells which layers :func:`mmskip.convert` converted, and why no others.

    Attributes:
        conversion: Name of the conversion.
        converted: Names of the converted layers.
        left_dense: Reason why each other layer that multiplies stays.
        on_reference: Reason why a converted layer will not run on the native
            backend, though that is the active one.
        dense_products: Reason why a module that multiplies tokens with
            tokens, an attention, computes these products whole.
    """

    conversion: str
    converted: list[str] = field(default_factory=list)
    left_dense: dict[str, str] = field(default_factory=dict)
    on_reference: dict[str, str] = field(default_factory=dict)
    dense_products: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        total = len(self.converted) + len(self.left_dense)
        done = f'converted {len(self.converted)} of {total} layers'
        lines = [f'{self.conversion}: {done}']
        lines += list_reasons('left dense', self.left_dense)
        what = 'attention products computed whole'
        lines += list_reasons(what, self.dense_products)
        lines += list_reasons('not native, no time saved', self.on_reference)
        return '\n'.join(lines)


def convert(
    model: nn.Module,
    conversion: Conversion,
    include: str | Sequence[str] = '.*',
    exclude: str | Sequence[str] = (),
) -> ConversionReport:
    """Convert the layers of a model, in place.

    Class, parameters, ``state_dict`` keys and hooks of the model stay;
    learned gates add only ``*.gate.*``. All checks come before the first
    change. Convert when the model is built, before its optimizer.

    Args:
        model: Any torch model.
        conversion: Method and its settings, e.g. ``SkipConversion(gate=...)``.
        include: Regular expressions; a layer is meant if one of them
            matches its whole name or that of a module it is in (any of its
            names, if it is shared).
        exclude: The same, for layers to leave alone.

    Returns:
        A report of the layers that were converted, and why others were not.

    Raises:
        ValueError: Nothing to convert; a layer that is meant is converted
            already; a pattern matches nothing; a layer that the conversion
            has settings for cannot be converted; a layer is fused by
            ``efficient_conv_bn_eval`` of mmcv or mmengine; the model is
            wrapped for several processes, which would not share new gates.
    """
    report, chosen = ConversionReport(type(conversion).__name__), {}
    includes, excludes = _compile(include), _compile(exclude)
    names_of = _names_of_modules(model)
    _check_patterns(model, names_of, includes + excludes)
    conversion.survey(model)
    for module, names in names_of.items():
        if not conversion.concerns(module):
            continue
        name = names[0]
        if not _matches(names, includes):
            reason = 'not included'
        elif _matches(names, excludes):
            reason = 'excluded'
        else:
            _refuse_converted(name, module)
            reason = conversion.refusal(name, module)
        if reason is None:
            chosen[module] = name
            report.converted += _layers_of(conversion, name, module, excludes)
        elif not isinstance(module, (SelfCounting, Converted)):
            report.left_dense[name] = reason
    if not chosen:
        raise ValueError(_nothing_matched(report, model))
    _check_settings(conversion, report)
    refuse_bypasses(model, set(chosen))
    _refuse_wrapped(model, conversion)
    for module, name in chosen.items():
        conversion.apply(name, module)
    return _complete(report, model, conversion)


def revert(model: nn.Module) -> None:
    """Undo every conversion of a model, in place: exact classes and keys.

    Compressed layers get the weights that they computed with: the product
    of their factors, or of weights and gates.

    Raises:
        ValueError: Nothing is converted, or ``mmskip.fold`` made an
            activation a part of a layer.
        RuntimeError: The model is inside a stream, clip, count_macs or
            record_routing.
    """
    converted = [m for m in model.modules() if isinstance(m, Converted)]
    if not converted:
        raise ValueError(
            f'expected a converted model, got {type(model).__name__} '
            'without any converted layer; nothing was changed'
        )
    if any(map(_is_in_use, converted)):
        raise RuntimeError(
            'the model is inside stream(), clip(), count_macs() or '
            'record_routing(); leave that block before revert()'
        )
    _refuse_final(model)
    _undo_forwards(model)
    # Parts of a layer come before it.
    for module in reversed(converted):
        module.revert()


@MODELS.register_module(name='ConvertedModel')
def build_converted_model(
    arch: str,
    conversions: Sequence[dict],
    efficiency_loss: dict | None = None,
    **model: Any,
) -> nn.Module:
    """Build ``arch`` and apply conversions, in order.

    Flat on purpose: ``cfg.model.backbone`` and the like stay where code
    outside expects them. The returned object is the stock model itself.

    Args:
        arch: The model's ``type``, looked up in the current scope.
        conversions: Configs of conversions; ``include`` and ``exclude`` are
            those of :func:`mmskip.convert`.
        efficiency_loss: Config of a loss on what gates cost in training,
            e.g. ``dict(type='mmskip.GateCostLoss', beta=0.1)`` or
            ``dict(type='mmskip.DynamicCostLoss')``.
        **model: The remaining keys of the model's config.

    Raises:
        ValueError: No conversion is given, or one cannot be applied.
    """
    if not conversions or isinstance(conversions, dict):
        raise ValueError(
            "expected a list of conversions, e.g. [dict(type='mmskip."
            f"SkipConversion', gate=...)], got {conversions!r}"
        )
    built = ENGINE_MODELS.build(dict(type=arch, **model))
    for conversion in conversions:
        options = dict(conversion)
        where = {
            key: options.pop(key)
            for key in ('include', 'exclude')
            if key in options
        }
        report = convert(built, build_own(options), **where)
        print_log(str(report), logger='current')
    if efficiency_loss is not None:
        build_own(efficiency_loss).attach(built)
    return built


def check_gates(
    model: nn.Module, saved: Mapping[str, Tensor], path: str
) -> bool:
    """Check that weights have either no learned gate or those of a model.

    mmengine loads what fits, warns of the rest and goes on: with gates that
    were never trained, or without those that were.

    Args:
        model: The model that they are loaded into, wrapped or not.
        saved: The weights.
        path: Name of their file, for the message.

    Returns:
        True if the weights leave the gates of the model as they are: it has
        gates, they have none.

    Raises:
        InputError: Gates of other layers or shapes, or of a model that has
            no learned gates.
    """
    saved = {name.removeprefix(_WRAPPER): v for name, v in saved.items()}
    found = {k: v.shape for k, v in saved.items() if _is_gate(k, saved)}
    own = {
        f'{name}.gate.{key}'.removeprefix(_WRAPPER): value.shape
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, Converted) and hasattr(module, 'gate')
        for key, value in module.gate.state_dict().items()
    }
    if not found:
        return bool(own)
    remedy = (
        'convert the model with the gate, include and exclude of the training '
        '(to drop learned gates on purpose, remove the keys *.gate.* from '
        'the file)'
    )
    if found.keys() != own.keys():
        raise InputError(
            f'expected the learned gates of the model in {path}: '
            f'{_some(own.keys() - found.keys())} of the model are not in it, '
            f'{_some(found.keys() - own.keys())} in it are not in the model; '
            f'{remedy}'
        )
    for key, shape in own.items():
        if found[key] != shape:
            raise InputError(
                f'expected {key} of shape {tuple(shape)} in {path}, got '
                f'{tuple(found[key])}; {remedy}'
            )
    return False


def refuse_bypasses(model: nn.Module, layers: set[nn.Module]) -> None:
    """Refuse what would compute converted layers without their forward.

    mmcv and mmengine can fuse a convolution with the batch norm behind it
    while they run (``efficient_conv_bn_eval``): it would never skip, and
    nothing would say so.

    Args:
        model: Model that has the layers.
        layers: Converted layers, or those to be converted.

    Raises:
        InputError: A layer is fused.
    """
    for name in _fused(model, layers):
        raise InputError(
            f'{name}: mmcv or mmengine replaces the forward of this '
            'convolution (efficient_conv_bn_eval), so it would never skip; '
            'set efficient_conv_bn_eval=False, or remove it from the config'
        )


def list_reasons(what: str, reasons: dict[str, str]) -> list[str]:
    """Write a line for each reason, with some of the modules it holds for.

    Args:
        what: The fate of the modules, e.g. ``left dense``.
        reasons: Reason for each module, by its name.
    """
    lines = []
    for reason, count in Counter(reasons.values()).most_common():
        names = [name for name, other in reasons.items() if other == reason]
        shown = ', '.join(names[:3]) + (', ...' if count > 3 else '')
        lines.append(f'  {what}, {count} x {reason}: {shown}')
    return lines


def _compile(patterns: str | Sequence[str]) -> list[re.Pattern]:
    patterns = [patterns] if isinstance(patterns, str) else patterns
    try:
        return [re.compile(pattern) for pattern in patterns]
    except re.error as error:
        raise ValueError(
            f'{error.pattern!r} is not a regular expression: {error}'
        ) from None


def _names_of_modules(model: nn.Module) -> dict[nn.Module, list[str]]:
    """List every name of each module; a shared one has several."""
    names_of: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names_of.setdefault(module, []).append(name)
    return names_of


def _matches(names: list[str], patterns: list[re.Pattern]) -> bool:
    above = set()
    for name in names:
        parts = name.split('.')
        above |= {'.'.join(parts[: i + 1]) for i in range(len(parts))}
    return any(p.fullmatch(part) for p in patterns for part in above)


def _check_patterns(
    model: nn.Module,
    names_of: dict[nn.Module, list[str]],
    patterns: list[re.Pattern],
) -> None:
    names = [name for names in names_of.values() for name in names]
    for pattern in patterns:
        if not any(pattern.fullmatch(name) for name in names):
            children = ', '.join(name for name, _ in model.named_children())
            raise ValueError(
                f'the pattern {pattern.pattern!r} matches no module of '
                f'{type(model).__name__}; its parts are: {children}'
            )


def _refuse_converted(name: str, module: nn.Module) -> None:
    if isinstance(module, Converted):
        raise ValueError(
            f'{name} is converted already ({type(module).__name__}); call '
            'mmskip.revert() first to convert it anew, or leave it out with '
            'include or exclude'
        )


def _layers_of(
    conversion: Conversion,
    name: str,
    module: nn.Module,
    excludes: list[re.Pattern],
) -> list[str]:
    """Name the layers of a module that is to be converted as a whole."""
    layers = conversion.layers_of(name, module)
    for layer in layers:
        if _matches([layer], excludes):
            raise ValueError(
                f'expected exclude to mean {name} as a whole, got a pattern '
                f'for {layer}: the layers of an attention are converted '
                f'together; exclude {name}. Nothing was changed'
            )
    return layers


def _check_settings(conversion: Conversion, report: ConversionReport) -> None:
    """Refuse settings for layers that are not converted, or not there."""
    for name in getattr(conversion, 'layers', ()):
        if name not in report.converted:
            # The layers of an attention stay dense together, by its name.
            reasons = report.left_dense
            reason = reasons.get(name) or reasons.get(name.rpartition('.')[0])
            raise ValueError(
                f'{report.conversion} has settings for {name}, which cannot '
                f'be converted: {reason or "the model has no such layer"}; '
                'nothing was changed'
            )


def _nothing_matched(report: ConversionReport, model: nn.Module) -> str:
    if not report.left_dense:
        return (
            f'{report.conversion} found no layer of its kind in '
            f'{type(model).__name__}; nothing was changed'
        )
    candidates = '\n'.join(
        f'  {name}: {reason}' for name, reason in report.left_dense.items()
    )
    return (
        f'{report.conversion} can convert none of '
        f'{len(report.left_dense)} candidates; nothing was changed. '
        f'Check include and exclude. Candidates:\n{candidates}'
    )


def _complete(
    report: ConversionReport, model: nn.Module, conversion: Conversion
) -> ConversionReport:
    """Add to a report what is known when all is converted."""
    report.on_reference.update(_not_native(model, report.converted))
    report.dense_products.update(conversion.dense_products(model))
    return report


def _refuse_wrapped(model: nn.Module, conversion: Conversion) -> None:
    """Refuse to add parameters behind the back of a distributed wrapper."""
    if getattr(conversion, 'adds_parameters', True) and any(
        isinstance(module, DistributedDataParallel)
        for module in model.modules()
    ):
        raise ValueError(
            'expected a model that is not wrapped yet, got '
            f'{type(model).__name__}, which would not share the gradients of '
            'parameters that come later; convert the model first, then wrap '
            'it (mmskip.ConvertedModel in a config does)'
        )


def _not_native(model: nn.Module, names: list[str]) -> dict[str, str]:
    """Say why the native backend, if it is to run, does not take layers."""
    if active_backend() != 'native':
        return {}
    reasons = {
        name: model.get_submodule(name).native_refusal() for name in names
    }
    return {name: why for name, why in reasons.items() if why is not None}


def _refuse_final(model: nn.Module) -> None:
    """Refuse what would forget a part of what a layer computes."""
    for name, module in model.named_modules():
        why = module.why_final() if isinstance(module, Converted) else None
        if why is not None:
            raise ValueError(
                f'expected layers that can be what they were, got {name}: '
                f'{why}; there is no way back: build the model anew'
            )


def _undo_forwards(model: nn.Module) -> None:
    """Give all parts of a model their own forward back."""
    for part in model.modules():
        forward = part.__dict__.get('forward')
        if getattr(forward, 'ends_with_revert', False):
            del part.forward


def _is_in_use(module: nn.Module) -> bool:
    names = ('_binding', '_ledger', '_routing')
    return any(getattr(module, name, None) is not None for name in names)


def _fused(model: nn.Module, layers: set[nn.Module]) -> Iterator[str]:
    names = dict(model.named_modules())
    for name, module in names.items():
        flag = getattr(module, 'efficient_conv_bn_eval_forward', None)
        if flag is not None and getattr(module, 'conv', None) in layers:
            yield f'{name}.conv'.lstrip('.')
        graph = getattr(module.__dict__.get('forward'), '__self__', None)
        if isinstance(graph, fx.GraphModule) and _is_fused_graph(graph):
            for inner, part in module.named_modules():
                if part in layers:
                    yield f'{name}.{inner}'.strip('.')


def _is_fused_graph(graph: fx.GraphModule) -> bool:
    control = efficient_conv_bn_eval.efficient_conv_bn_eval_control
    return any(node.target is control for node in graph.graph.nodes)


def _is_gate(key: str, saved: Mapping[str, Tensor]) -> bool:
    """Tell if a weight is a gate's: one inside of a layer.

    The projections of an attention have gates, and no weights of their own.
    """
    match = _GATE.fullmatch(key)
    if match is None:
        return False
    whole, dot, _ = match[1].rpartition('.')
    beside = (
        f'{match[1]}.weight',
        f'{whole}{dot}in_proj_weight',
        f'{whole}{dot}q_proj_weight',
    )
    return any(name in saved for name in beside)


def _some(keys: Iterable[str]) -> str:
    """Count gates, and name the first of them."""
    layers = sorted({_GATE.fullmatch(key)[1] for key in keys})
    return f'{len(layers)} ({layers[0]}, ...)' if layers else 'none'

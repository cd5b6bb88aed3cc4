"""``convert`` and ``revert``: change a model's layers in place."""

import re
from collections.abc import Sequence
from typing import Protocol

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmskip.layers import Converted, SelfCounting
from mmskip.ops import active_backend
from mmskip.runtime import refuse_bypasses

from .report import ConversionReport

#: Why conversions leave a layer alone whose batch is no batch of frames.
ROI_REASON = (
    'in a RoI head, whose batch is boxes and not frames '
    '(roi_heads=True converts it all the same)'
)


class Conversion(Protocol):
    """What :func:`convert` asks of a method."""

    def concerns(self, module: nn.Module) -> bool:
        """Whether a module is of a kind that this conversion is about."""

    def refusal(self, name: str, module: nn.Module) -> str | None:
        """Why a layer stays as it is, None if it can be converted."""

    def apply(self, name: str, module: nn.Module) -> None:
        """Convert one layer in place."""


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
        conversion: What to do, e.g. ``SkipConversion(gate=...)``.
        include: Regular expressions; a layer is meant if one of them
            matches its whole name or that of a module it is in (any of its
            names, if it is shared).
        exclude: The same, for layers to leave alone.

    Returns:
        What was converted, and why the rest was not.

    Raises:
        ValueError: Nothing to convert; a layer that is meant is converted
            already; a pattern matches nothing; a layer that the conversion
            has settings for cannot be converted; a layer's convolution is
            replaced by ``efficient_conv_bn_eval`` of mmcv or mmengine; the
            model is wrapped for several processes, which would not share
            what gates learn.
    """
    report = ConversionReport(type(conversion).__name__)
    includes, excludes = _compile(include), _compile(exclude)
    names_of = _names_of_modules(model)
    _check_patterns(model, names_of, includes + excludes)
    chosen = []
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
            chosen.append(module)
            report.converted.append(name)
        elif not isinstance(module, SelfCounting):
            report.left_dense[name] = reason
    if not chosen:
        raise ValueError(_nothing_matched(report, model))
    _check_settings(conversion, report)
    refuse_bypasses(model, set(chosen))
    _refuse_wrapped(model, conversion)
    for name, module in zip(report.converted, chosen, strict=True):
        conversion.apply(name, module)
    report.on_reference.update(_not_native(chosen, report.converted))
    return report


def revert(model: nn.Module) -> None:
    """Undo every conversion of a model, in place: exact classes and keys.

    Compressed layers get the weights that they computed with: the product
    of their factors, or of weights and gates.

    Raises:
        ValueError: Nothing is converted, or ``mmskip.fold`` made an
            activation a part of a layer.
        RuntimeError: The model is inside a stream, clip, count_macs or
            record_choices.
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
            'record_choices(); leave that block before revert()'
        )
    _refuse_final(model)
    _undo_forwards(model)
    # Parts of a layer come before it.
    for module in reversed(converted):
        module.revert()


def _undo_forwards(model: nn.Module) -> None:
    """Give all parts of a model their own forward back."""
    for part in model.modules():
        forward = part.__dict__.get('forward')
        if getattr(forward, 'ends_with_revert', False):
            del part.forward


def _refuse_final(model: nn.Module) -> None:
    """Refuse what would forget a part of what a layer computes."""
    for name, module in model.named_modules():
        why = module.why_final() if isinstance(module, Converted) else None
        if why is not None:
            raise ValueError(
                f'expected layers that can be what they were, got {name}: '
                f'{why}; there is no way back: build the model anew'
            )


def _is_in_use(module: nn.Module) -> bool:
    names = ('_binding', '_ledger', '_choices')
    return any(getattr(module, name, None) is not None for name in names)


def _compile(patterns: str | Sequence[str]) -> list[re.Pattern]:
    patterns = [patterns] if isinstance(patterns, str) else patterns
    try:
        return [re.compile(pattern) for pattern in patterns]
    except re.error as error:
        raise ValueError(
            f'{error.pattern!r} is not a regular expression: {error}'
        ) from None


def _names_of_modules(model: nn.Module) -> dict[nn.Module, list[str]]:
    """Every name of each module; a shared one has several."""
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


def _check_settings(conversion: Conversion, report: ConversionReport) -> None:
    """Refuse settings for layers that are not converted, or not there."""
    for name in getattr(conversion, 'layers', ()):
        if name not in report.converted:
            reason = report.left_dense.get(name, 'the model has no such layer')
            raise ValueError(
                f'{report.conversion} has settings for {name}, which cannot '
                f'be converted: {reason}; nothing was changed'
            )


def _not_native(modules: list[nn.Module], names: list[str]) -> dict[str, str]:
    """Why the native backend, if it is to run, does not take layers."""
    if active_backend() != 'native':
        return {}
    reasons = {
        name: module.native_refusal()
        for name, module in zip(names, modules, strict=True)
    }
    return {name: why for name, why in reasons.items() if why is not None}


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

"""Build a stock model and convert it, from a config."""

from collections.abc import Sequence
from typing import Any

from mmengine.logging import print_log
from mmengine.registry import MODELS as ENGINE_MODELS
from torch import nn

from mmskip.registry import MODELS, build_own

from .convert import convert


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

"""Child registries of mmengine's roots, scope ``mmskip``.

A prefixed name (``type='mmskip.SkipConv2d'``) makes mmengine import this
module by itself; ``locations`` then import the modules that register the
rest, on first use, so that ``import mmskip`` stays light.
"""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from mmengine.registry import DATA_SAMPLERS as ENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as ENGINE_DATASETS
from mmengine.registry import FUNCTIONS as ENGINE_FUNCTIONS
from mmengine.registry import HOOKS as ENGINE_HOOKS
from mmengine.registry import METRICS as ENGINE_METRICS
from mmengine.registry import MODELS as ENGINE_MODELS
from mmengine.registry import TRANSFORMS as ENGINE_TRANSFORMS
from mmengine.registry import Registry as EngineRegistry

from mmskip.options import check_options


class Registry(EngineRegistry):
    """A registry whose entries refuse options that are not as annotated.

    See :func:`mmskip.options.check_options`.
    """

    def register_module(
        self,
        name: str | list[str] | None = None,
        force: bool = False,
        module: Callable | None = None,
    ) -> Callable:
        """Register a class or a function with a check of its options."""
        if module is not None:
            return super().register_module(name, force, check_options(module))
        register = super().register_module(name, force)
        return lambda found: register(check_options(found))


MODELS = Registry(
    'model',
    parent=ENGINE_MODELS,
    scope='mmskip',
    locations=[
        'mmskip.skip_conv',
        'mmskip.sof_net',
        'mmskip.va_red2',
        'mmskip.compression',
        'mmskip.models',
        'mmskip.baselines',
        'mmskip.core',
    ],
)
HOOKS = Registry(
    'hook', parent=ENGINE_HOOKS, scope='mmskip', locations=['mmskip.engine']
)
METRICS = Registry(
    'metric',
    parent=ENGINE_METRICS,
    scope='mmskip',
    locations=['mmskip.evaluation'],
)
DATASETS = Registry(
    'dataset',
    parent=ENGINE_DATASETS,
    scope='mmskip',
    locations=['mmskip.datasets'],
)
DATA_SAMPLERS = Registry(
    'data sampler',
    parent=ENGINE_DATA_SAMPLERS,
    scope='mmskip',
    locations=['mmskip.datasets'],
)
# What functions get is data, which they check themselves.
FUNCTIONS = EngineRegistry(
    'function',
    parent=ENGINE_FUNCTIONS,
    scope='mmskip',
    locations=['mmskip.datasets'],
)
TRANSFORMS = Registry(
    'transform',
    parent=ENGINE_TRANSFORMS,
    scope='mmskip',
    locations=['mmskip.datasets'],
)
DISTILL_LOSSES = Registry(
    'distillation loss', scope='mmskip', locations=['mmskip.evaluation']
)


#: Where :func:`build_own` looks, as mmengine would call it.
SCOPE = f'the {MODELS.scope}::{MODELS.name} registry'


def build_own(cfg: dict, **kwargs: Any) -> Any:
    """Build an object of ours from ``MODELS``, with or without the prefix.

    mmengine's ``build`` would first look in the current default scope (say
    ``mmdet``); parts that only make sense here (gates, conversions) are
    looked up here and nowhere else.

    Args:
        cfg: A dict with ``type``, ``'X'``, ``'mmskip.X'`` or a class.
        **kwargs: Further arguments of the constructor.

    Raises:
        TypeError: ``cfg`` is not a dict with a ``type``.
        KeyError: No class of that name is registered.
    """
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise TypeError(
            "expected a dict with the key 'type', the name of what is "
            f'registered in {SCOPE}, got {cfg!r}'
        )
    arguments = {k: v for k, v in cfg.items() if k not in ('type', '_scope_')}
    kind = cfg['type']
    if isinstance(kind, str):
        found = MODELS.get(kind if '.' in kind else f'mmskip.{kind}')
        if found is None:
            raise KeyError(_unknown(kind))
        kind = found
    return kind(**arguments, **kwargs)


def _unknown(kind: str) -> str:
    known = sorted(MODELS.module_dict)
    near = get_close_matches(kind.rpartition('.')[2], known, cutoff=0.7)
    hint = f'did you mean {" or ".join(near)}?' if near else ''
    return (
        f'{kind!r} is not in {SCOPE}; '
        f'{hint or "known are " + ", ".join(known)}'
    )

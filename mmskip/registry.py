"""Child registries of mmengine's roots, scope ``mmskip``.

A prefixed name (``type='mmskip.SkipConv2d'``) makes mmengine import this
module by itself; ``locations`` then import the modules that register the
rest, on first use, so that ``import mmskip`` stays light.
"""

from typing import Any

from mmengine.registry import DATA_SAMPLERS as ENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as ENGINE_DATASETS
from mmengine.registry import FUNCTIONS as ENGINE_FUNCTIONS
from mmengine.registry import HOOKS as ENGINE_HOOKS
from mmengine.registry import METRICS as ENGINE_METRICS
from mmengine.registry import MODELS as ENGINE_MODELS
from mmengine.registry import TRANSFORMS as ENGINE_TRANSFORMS
from mmengine.registry import Registry

MODELS = Registry(
    'model',
    parent=ENGINE_MODELS,
    scope='mmskip',
    locations=[
        'mmskip.layers',
        'mmskip.convert',
        'mmskip.losses',
        'mmskip.models',
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
FUNCTIONS = Registry(
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
            f"expected a dict with the key 'type', got {cfg!r}; write e.g. "
            "dict(type='mmskip.OutputNormGate', threshold=0.05)"
        )
    arguments = {k: v for k, v in cfg.items() if k not in ('type', '_scope_')}
    kind = cfg['type']
    if isinstance(kind, str):
        found = MODELS.get(kind if '.' in kind else f'mmskip.{kind}')
        if found is None:
            known = ', '.join(sorted(MODELS.module_dict))
            raise KeyError(
                f'{kind!r} is not registered in mmskip; known: {known}'
            )
        kind = found
    return kind(**arguments, **kwargs)

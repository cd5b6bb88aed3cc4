"""The distinct models among the configs that a host's wheel brings."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmskip.apis.errors import UserError, one_line

#: Options that change neither layers nor what they compute in inference.
_IRRELEVANT = {
    'data_preprocessor',
    'frozen_stages',
    'init_cfg',
    'norm_eval',
    'pretrained',
    'test_cfg',
    'train_cfg',
    'with_cp',
}
#: Where wrappers (trackers, distillers) have the model that they stand on.
_WRAPPED = ('detector', 'student_cfg')


@dataclass(frozen=True)
class ZooModel:
    """A model, and the configs that differ in nothing that matters here.

    Attributes:
        host: Its package.
        configs: Their paths below the folder of configs, at least one.
        problem: Why the config cannot be read, if it cannot.
    """

    host: str
    configs: tuple[str, ...]
    problem: str = ''

    @property
    def name(self) -> str:
        """The first config, without its ending."""
        return self.configs[0].removesuffix('.py')

    @property
    def path(self) -> Path:
        """The file of the first config."""
        return configs_of(self.host) / self.configs[0]


def configs_of(host: str) -> Path:
    """The folder of configs in the installed wheel of a host.

    Raises:
        UserError: The host is not installed, or its wheel has none.
    """
    spec = find_spec(host)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f'{host} is not installed')
    folder = Path(spec.submodule_search_locations[0]) / '.mim' / 'configs'
    if not folder.is_dir():
        raise UserError(
            f'expected the configs of {host} in {folder}, which is no '
            'folder; install the host from its wheel'
        )
    return folder


def config_paths(host: str, only: str = '') -> list[Path]:
    """All configs of a host but for bases.

    Args:
        host: Package such as ``mmdet``.
        only: Regular expression that their paths have to contain.

    Raises:
        UserError: There is none.
    """
    folder = configs_of(host)
    paths = [
        path
        for path in sorted(folder.rglob('*.py'))
        if '_base_' not in path.parts
        and re.search(only, path.relative_to(folder).as_posix())
    ]
    if not paths:
        raise UserError(f'no config below {folder} contains {only!r}')
    return paths


def group_models(host: str, paths: Iterable[Path]) -> list[ZooModel]:
    """The distinct models of configs, one of each folder first.

    A config that cannot be read is a model with a problem; one without a
    model (a schedule, a data set) is none.

    Args:
        host: Whose configs they are.
        paths: As of :func:`config_paths`.
    """
    folder = configs_of(host)
    configs_by_key: dict[str, list[str]] = {}
    unread = []
    for path in paths:
        name = path.relative_to(folder).as_posix()
        try:
            config = Config.fromfile(path)
            key = model_key(inner_model(config.get('model', {})))
        except Exception as error:  # a config is Python: it may raise any
            why = f'{type(error).__name__}: {one_line(error)}'
            unread.append(ZooModel(host, (name,), why))
            continue
        if 'model' in config:
            configs_by_key.setdefault(key, []).append(name)
    found = [ZooModel(host, tuple(c)) for c in configs_by_key.values()]
    return _by_turns(sorted(found + unread, key=lambda model: model.name))


def _by_turns(models: list[ZooModel]) -> list[ZooModel]:
    """Sort models: the first of each folder, then the second, and so on."""
    met: Counter[Path] = Counter()
    turns = {}
    for model in models:
        turns[model] = met[model.path.parent]
        met[model.path.parent] += 1
    return sorted(models, key=turns.__getitem__)


def inner_model(model: dict[str, Any]) -> dict[str, Any]:
    """The config of the model that runs on a frame, of a tracker too."""
    for key in _WRAPPED:
        inner = model.get(key)
        if isinstance(inner, str):
            return inner_model(Config.fromfile(inner).model)
        if inner is not None:
            return inner_model(inner)
    return model


def model_key(model: dict[str, Any]) -> str:
    """What models have in common that differ in nothing that matters.

    Weights, losses (but for what decides the number of outputs), training,
    post-processing and the number of classes do not.

    Args:
        model: Config of a model.
    """
    return json.dumps(_relevant(model), sort_keys=True, default=repr)


def _relevant(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_relevant(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {}
    for key, item in value.items():
        if key in _IRRELEVANT:
            continue
        if key.startswith('loss') and isinstance(item, dict):
            item = [item.get('type'), item.get('use_sigmoid')]
        if key == 'num_classes' and isinstance(item, int):
            item = 1
        kept[key] = _relevant(item)
    return kept

"""Plans of experiments: methods to compare, listed in a Python config.

A plan has ``methods``, a dict of name to what the method is, ``seeds``, and
``task``, a key of ``mmskip.evaluation.TASKS`` (``detection`` if not given).
Names that begin with an underscore are its own helpers::

    seeds = [0, 1, 2]
    methods = dict(
        dense=dict(config='detector.py', train=True),
        output_norm=dict(
            config='detector_output-norm.py',
            weights='dense',
            settings={
                'threshold 0.1': {'model.conversions.0.gate.threshold': 0.1},
            },
        ),
    )

``config`` lies relative to the plan. ``weights`` is an earlier method, whose
checkpoint of the same seed is meant (``method/setting`` if it has several
settings), or a file, with ``{seed}`` if there is one per seed. They are what
is tested, or what a training begins with if ``train`` is true. ``options``
are dotted keys of the config to values; so are those of each of the
``settings``, which may also replace ``config`` and ``weights``.

``compress=dict(method='spatial_svd', macs=0.3)`` lets ``tools/compress.py``
compress the weights first, to a share of the MACs; what it writes is tested,
or trained. Settings may change keys of it, see :class:`Compression`.
"""

import csv
import difflib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from mmskip.apis import UserError, load_config
from mmskip.apis.models import check_checkpoint
from mmskip.evaluation import DETECTION, TASKS, Task
from mmskip.native import active_backend

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# How lists of one of several splits are called.
LIST = re.compile(r'split_\d+')
# Names of methods to those of mmskip.SVDConversion.
SVD_OPTIONS = dict(spatial_svd='spatial', weight_svd='weight')
KEYS = ('macs', 'method', 'shape')
PLAN_KEYS = ('methods', 'seeds', 'task')
METHOD_KEYS = (
    'compress',
    'config',
    'options',
    'seeds',
    'settings',
    'train',
    'weights',
)


def split_options(cfg: Mapping[str, Any], split: int) -> dict[str, Any]:
    """Turn dotted keys of a config into what they are in a split.

    Data sets tell their split by the key ``split``, or by the name of their
    ``ann_file`` (``train_split_1_list_videos.txt``).

    Args:
        cfg: The config.
        split: The split.

    Raises:
        UserError: A loader has no data set that tells its split.
    """
    options: dict[str, Any] = {}
    for loader in LOADERS:
        if cfg.get(loader) is None:
            continue
        found = dict(_find(f'{loader}.dataset', cfg[loader]['dataset'], split))
        if not found:
            raise UserError(
                f'expected a data set with the key split in {loader} of the '
                "config, or with 'split_1' in the name of its ann_file"
            )
        options.update(found)
    return options


def make_row(
    method: str,
    setting: str,
    metrics: Mapping[str, float],
    task: Task = DETECTION,
    **more: Any,
) -> dict[str, Any]:
    """Make a row for tables and plots, see :mod:`mmskip.visualization.table`.

    Args:
        method: Name of the method.
        setting: What tells it from other rows of the method.
        metrics: What the metrics of a test reported.
        task: Which of them matter.
        **more: Added to the row.

    Raises:
        UserError: A metric is missing.
    """
    names = task.metrics
    missing = [name for name in names.values() if name not in metrics]
    if missing:
        raise UserError(
            f'the test reports no {", ".join(missing)}; expected '
            f'{task.needs} in test_evaluator'
        )
    return {
        'method': method,
        'setting': setting,
        **more,
        **{key: metrics[name] for key, name in names.items()},
        task.time: None,
        'backend': active_backend(),
    }


def slug(name: str) -> str:
    """Turn a name into a folder's, which tools take on command lines."""
    return re.sub(r'[^\w.+-]+', '_', name)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows, the keys of the first one as the header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w', newline='') as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def write_json(path: Path, content: Any) -> None:
    """Write what JSON knows, indented."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + '\n')


@dataclass(frozen=True)
class Compression:
    """A compression to a share of a model's MACs.

    Attributes:
        method: A key of :data:`SVD_OPTIONS`.
        macs: Share of the whole model's MACs that may be left, below 1.
        shape: Shape of the input, (N, C, H, W), for which MACs are counted;
            ``None`` leaves it to the config's codec.
    """

    method: str
    macs: float
    shape: tuple[int, ...] | None = None

    def keys(self) -> dict[str, Any]:
        """Return the fields as JSON knows them."""
        shape = None if self.shape is None else list(self.shape)
        return dict(method=self.method, macs=self.macs, shape=shape)

    def files(self, folder: Path, config: str | PathLike) -> tuple[Path, Path]:
        """Return the config and the checkpoint that are written."""
        path = folder / f'{Path(config).stem}_{self.method}-{self.macs}.py'
        return path, path.with_suffix('.pth')

    def arguments(self) -> list[str]:
        """Return the arguments of the command line."""
        found = ['--method', self.method, '--macs', str(self.macs)]
        if self.shape is not None:
            found += ['--shape', *map(str, self.shape)]
        return found


def read_compression(parts: Sequence[Any], where: str) -> Compression:
    """Read what a plan says.

    Args:
        parts: Dicts of attributes of :class:`Compression`; those of later
            ones win.
        where: What the message calls the place.

    Raises:
        UserError: One is not such a dict, or an attribute is out of range.
    """
    found: dict[str, Any] = {}
    for part in parts:
        if not isinstance(part, Mapping) or not set(part) <= set(KEYS):
            raise UserError(
                f'{where}: expected compress to be a dict of '
                f'{", ".join(KEYS)}, got {part!r}'
            )
        found.update(part)
    method, macs = found.get('method'), found.get('macs')
    if method not in SVD_OPTIONS:
        raise UserError(
            f'{where}: expected method of compress to be one of '
            f'{", ".join(SVD_OPTIONS)}, got {method!r}'
        )
    if not isinstance(macs, float) or not 0 < macs < 1:
        raise UserError(
            f'{where}: expected macs of compress, a share between 0 and 1, '
            f'got {macs!r}'
        )
    shape = found.get('shape')
    return Compression(method, macs, None if shape is None else tuple(shape))


@dataclass(frozen=True)
class Trial:
    """A row of the results: a setting of a method, with one seed.

    Attributes:
        method: Name of the method.
        setting: Name of the setting, '' for the only one.
        seed: Seed of the trained weights; None if they are not of this plan.
        config: The config file.
        options: Dotted keys of the config to values.
        weights: A file that is begun with or tested.
        needs: Name of the trial whose checkpoint is used instead.
        train: Whether it is trained.
        compress: How its weights are compressed first.
    """

    method: str
    setting: str
    seed: int | None
    config: Path
    options: Mapping[str, Any]
    weights: str | None
    needs: str | None
    train: bool
    compress: Compression | None = None

    @property
    def name(self) -> str:
        """The name of the trial, unlike the others of its plan."""
        return trial_name(self.method, self.setting, self.seed)

    def folder(self, out: Path) -> Path:
        """Return the folder of its checkpoint and results, below another."""
        folder = out / self.method / (slug(self.setting) or 'default')
        return folder if self.seed is None else folder / f'seed_{self.seed}'


def trial_name(method: str, setting: str, seed: int | None) -> str:
    """Return the name of a trial."""
    seeded = '' if seed is None else f'seed {seed}'
    return ', '.join(filter(None, (method, setting, seeded)))


class Plan(NamedTuple):
    """The trials that are compared, and on what task.

    Attributes:
        task: Which figures the methods are compared by.
        trials: The rows, those that others need first.
    """

    task: Task
    trials: list[Trial]


def read_plan(path: str | PathLike) -> Plan:
    """Read a plan.

    Args:
        path: The plan.

    Raises:
        UserError: The plan is not what the module's text says, or names a
            file or a method that is not there.
    """
    plan = load_config(path).to_dict()
    names = [name for name in plan if not name.startswith('_')]
    _check_keys(names, PLAN_KEYS, f'plan {path}')
    methods = plan.get('methods')
    if not isinstance(methods, dict) or not methods:
        raise UserError(f'plan {path}: expected a dict of methods')
    task = plan.get('task', 'detection')
    if task not in TASKS:
        raise UserError(
            f'plan {path}: expected task to be one of {", ".join(TASKS)}, '
            f'got {task!r}'
        )
    reader = _Reader(Path(path), list(methods))
    for name, method in methods.items():
        reader.read(name, method, plan.get('seeds', [0]))
    return Plan(TASKS[task], reader.trials)


def _find(place: str, dataset: Any, split: int) -> Iterator[tuple[str, Any]]:
    """Yield the options of a data set and of those that it wraps."""
    if not isinstance(dataset, Mapping):
        return
    name = dataset.get('ann_file') or ''
    if 'split' in dataset:
        yield f'{place}.split', split
    elif LIST.search(name):
        yield f'{place}.ann_file', LIST.sub(f'split_{split}', name)
    yield from _find(f'{place}.dataset', dataset.get('dataset'), split)
    for index, part in enumerate(dataset.get('datasets') or ()):
        yield from _find(f'{place}.datasets.{index}', part, split)


class _Reader:
    """Makes trials of methods.

    Args:
        path: The plan.
        methods: Names of all its methods.
    """

    def __init__(self, path: Path, methods: list[str]) -> None:
        self.trials: list[Trial] = []
        self._path = path
        self._methods = methods

    def read(self, name: str, method: Any, seeds: list[int]) -> None:
        """Add the trials of a method."""
        where = f'plan {self._path}, method {name}'
        if not isinstance(method, dict):
            raise UserError(f'{where}: expected a dict, got {method!r}')
        _check_keys(method, METHOD_KEYS, where)
        seeds = method.get('seeds', seeds)
        if not isinstance(seeds, list) or not seeds:
            raise UserError(f'{where}: expected a list of seeds, got {seeds}')
        for setting, changes in (method.get('settings') or {'': {}}).items():
            if not isinstance(changes, dict):
                raise UserError(
                    f'{where}, setting {setting}: expected a dict of '
                    f'options, got {changes!r}'
                )
            options = {**method.get('options', {}), **changes}
            config = options.pop('config', method.get('config'))
            weights = options.pop('weights', method.get('weights'))
            train = method.get('train', False)
            compress = _merge_compress(where, method, options)
            if weights is None and (compress is not None or not train):
                raise UserError(
                    f'{where}: expected weights (an earlier method or a '
                    'file) or, to begin from nothing, train=True without '
                    'compress'
                )
            sources = self._sources(where, setting, weights, train, seeds)
            for seed, (file, needs) in sources.items():
                self.trials.append(
                    Trial(
                        method=name,
                        setting=str(setting),
                        seed=seed,
                        config=self._config(where, config),
                        options=options,
                        weights=file,
                        needs=needs,
                        train=train,
                        compress=compress,
                    )
                )

    def _config(self, where: str, config: str | None) -> Path:
        if config is None:
            raise UserError(f'{where}: expected config, a file')
        path = Path(os.path.normpath(self._path.parent / config))
        if not path.is_file():
            raise UserError(f'{where}: config not found: {path}')
        return path

    def _sources(
        self,
        where: str,
        setting: str,
        weights: str | None,
        train: bool,
        seeds: list[int],
    ) -> dict[int | None, tuple[str | None, str | None]]:
        """Return, per seed, the file or the trial that weights come from."""
        if weights is None:
            return dict.fromkeys(seeds, (None, None))
        method, _, wanted = weights.partition('/')
        if method not in self._methods:
            if not train and '{seed}' not in weights:
                seeds = [None]
            files = {n: weights.replace('{seed}', str(n)) for n in seeds}
            for file in files.values():
                _check_file(where, file)
            return {seed: (file, None) for seed, file in files.items()}
        earlier = self._earlier(where, method, wanted or setting, bool(wanted))
        if not train:
            seeds = list(earlier)
        only = next(iter(earlier.values())) if len(earlier) == 1 else None
        found = {seed: earlier.get(seed, only) for seed in seeds}
        if None in found.values():
            raise UserError(
                f'{where}: seeds {seeds} need as many of {weights}, which '
                f'has {list(earlier)}'
            )
        return {seed: (None, trial.name) for seed, trial in found.items()}

    def _earlier(
        self, where: str, method: str, setting: str, strict: bool
    ) -> dict[int | None, Trial]:
        """Return the trials of an earlier method, by seed."""
        trials = [trial for trial in self.trials if trial.method == method]
        if not trials:
            raise UserError(f'{where}: expected method {method} before it')
        settings = list(dict.fromkeys(trial.setting for trial in trials))
        if setting not in settings:
            if strict or len(settings) > 1:
                raise UserError(
                    f'{where}: {method} has no setting {setting!r}, but '
                    f'{", ".join(settings)}; write {method}/SETTING'
                )
            setting = settings[0]
        return {t.seed: t for t in trials if t.setting == setting}


def _merge_compress(
    where: str, method: Mapping[str, Any], options: dict[str, Any]
) -> Compression | None:
    """Merge a method's compression with that of a setting's options."""
    parts = [method.get('compress'), options.pop('compress', None)]
    given = [part for part in parts if part is not None]
    return read_compression(given, where) if given else None


def _check_keys(
    found: Iterable[str], known: tuple[str, ...], where: str
) -> None:
    for key in found:
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f'; did you mean {close[0]!r}?' if close else ''
            raise UserError(
                f'{where}: unknown key {key!r}, expected '
                f'{", ".join(known)}{hint}'
            )


def _check_file(where: str, file: str) -> None:
    try:
        check_checkpoint(file)
    except UserError as error:
        raise UserError(f'{where}: {error}') from error

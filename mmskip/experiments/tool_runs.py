"""Do what the tools do, in processes, and only what is not done yet."""

import functools
import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

from mmskip.apis import UserError, load_config
from mmskip.apis.models import check_checkpoint
from mmskip.reading import read_json

from .jobs import Children, run_tool_process
from .plan import Compression

# The settings that decide what a test reports, and what a training learns.
TEST_KEYS = (
    'custom_hooks',
    'data_preprocessor',
    'default_scope',
    'model',
    'test_cfg',
    'test_dataloader',
    'test_evaluator',
)
TRAIN_KEYS = (
    'auto_scale_lr',
    'custom_hooks',
    'data_preprocessor',
    'default_scope',
    'model',
    'optim_wrapper',
    'param_scheduler',
    'randomness',
    'train_cfg',
    'train_dataloader',
)

Recipe = dict[str, Any]
COST_METRICS = ('mmskip.ComputeCost', 'mmskip.VideoCost', 'mmskip.ClipCost')


def make_recipe(
    cfg: Config, keys: tuple[str, ...], weights: str | None, **more: Any
) -> Recipe:
    """Describe what goes into a result.

    Args:
        cfg: The config, options merged.
        keys: Those of its keys that matter.
        weights: Checkpoint that is begun with; a file counts by its
            contents, an address by its name.
        **more: Whatever else matters, as JSON knows it.
    """
    chosen = {key: cfg[key] for key in keys if key in cfg}
    text = json.dumps(Config(chosen).to_dict(), sort_keys=True, default=str)
    return dict(
        settings=hashlib.sha256(text.encode()).hexdigest(),
        weights=None if weights is None else _fingerprint(weights),
        **more,
    )


def read_back(path: Path, recipe: Recipe | None = None) -> dict | None:
    """Read a result if it is there and its recipe is unchanged.

    Args:
        path: The JSON file that :func:`keep` wrote.
        recipe: What it would be made from now; ``None`` takes any.
    """
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(kept, dict):
        return None
    if recipe is not None and kept.get('recipe') != recipe:
        return None
    return kept


def keep(path: Path, recipe: Recipe, **result: Any) -> dict:
    """Write a result with its recipe, whole or not at all."""
    kept = dict(result, recipe=recipe)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix('.unfinished')
    unfinished.write_text(json.dumps(kept, indent=2))
    unfinished.replace(path)
    return kept


@dataclass(frozen=True)
class Tested:
    """The figures that a test reported.

    Attributes:
        metrics: Figures of the evaluator, by name.
        cost: What the metric of the cost writes to its ``out_file``: MACs
            and firing rate of each layer (``mmskip.ComputeCost``), or what
            became of each video (``mmskip.VideoCost``).
        reused: Whether it was read back.
    """

    metrics: dict[str, float]
    cost: dict[str, Any]
    reused: bool


class Compressed(NamedTuple):
    """The files that a compression wrote.

    Attributes:
        config: With the ranks; options are merged into it.
        checkpoint: With the factors.
    """

    config: Path
    checkpoint: Path


@dataclass(frozen=True)
class ToolRuns:
    """Runs ``tools/train.py``, ``tools/test.py`` and ``tools/compress.py``.

    A process each: none can take others down, and each says what a user
    would see who types the command, which is the first line of its log.

    Attributes:
        tools: Folder of the tools.
        threads: CPU threads of each process; ``None`` leaves it to torch.
        again: Test even what was tested.
        may_train: Whether a checkpoint that is missing is trained.
        may_test: Whether a result that is missing is made.
    """

    tools: Path
    threads: int | None = None
    again: bool = False
    may_train: bool = True
    may_test: bool = True
    _reading: threading.Lock = field(default_factory=threading.Lock)
    _children: Children = field(default_factory=Children)

    def stop(self) -> None:
        """End the processes that run, in whatever thread, and start none."""
        self._children.stop()

    def test(
        self,
        config: str | Path,
        checkpoint: str | Path,
        options: Mapping[str, Any],
        folder: Path,
        tell: Callable[[str], Any] = str,
    ) -> Tested:
        """Test a model, or read back what it reported.

        Args:
            config: The config file.
            checkpoint: The weights.
            options: Dotted keys of the config to values.
            folder: Where ``result.json`` and the log go.
            tell: Takes the time left, as often as the tool tells it.

        Raises:
            UserError: A file is missing, the config has no metric of the
                cost, or the test fails.
        """
        checkpoint = check_checkpoint(checkpoint)
        cfg = self._load(config, options)
        recipe = make_recipe(cfg, TEST_KEYS, checkpoint)
        result = folder / 'result.json'
        kept = None if self.again else read_back(result, recipe)
        if kept is not None:
            return Tested(kept['metrics'], kept['cost'], reused=True)
        if not self.may_test:
            raise UserError(f'no result in {folder}')
        metrics, cost = folder / 'metrics.json', folder / 'cost.json'
        command = ['test.py', config, checkpoint, '--out', metrics]
        self._run(
            [*command, '--work-dir', folder],
            {**options, cost_option(cfg): str(cost)},
            folder,
            tell,
        )
        kept = keep(
            result,
            recipe,
            metrics=read_json(metrics, finite=False),
            cost=read_json(cost, finite=False),
        )
        return Tested(kept['metrics'], kept['cost'], reused=False)

    def train(
        self,
        config: str | Path,
        start: str | Path | None,
        options: Mapping[str, Any],
        seed: int,
        folder: Path,
        tell: Callable[[str], Any] = str,
    ) -> Path:
        """Train a model, or find the checkpoint of an earlier training.

        An interrupted training goes on, and so does one that was begun by
        hand in the same folder. One of another recipe is done anew.

        Args:
            config: The config file.
            start: Weights to begin with (``load_from``).
            options: Dotted keys of the config to values.
            seed: Seed of the training.
            folder: Its ``--work-dir``.
            tell: Takes the time left, as often as the tool tells it.

        Returns:
            The last checkpoint.

        Raises:
            UserError: A file is missing, the training fails, or there is no
                checkpoint and training is not allowed.
        """
        options = dict(options)
        if start is not None:
            options['load_from'] = start = check_checkpoint(start)
        cfg = self._load(config, options)
        recipe = make_recipe(cfg, TRAIN_KEYS, start, seed=seed)
        record = folder / 'trained.json'
        known = read_back(record)
        same = known is None or known.get('recipe') == recipe
        found = last_checkpoint(folder)
        done = known is not None and known.get('done') and same
        if found is not None and (done or not self.may_train):
            return found
        if not self.may_train:
            raise UserError(f'no checkpoint in {folder}, and --no-train')
        command = ['train.py', config, '--seed', seed, '--no-validate']
        command += ['--work-dir', folder]
        if found is not None and same:
            command.append('--resume')
        else:
            (folder / 'last_checkpoint').unlink(missing_ok=True)
        keep(record, recipe, done=False)
        self._run(command, options, folder, tell)
        found = last_checkpoint(folder)
        if found is None:
            raise UserError(
                f'the training in {folder} left no checkpoint; has the '
                'config default_hooks.checkpoint?'
            )
        keep(record, recipe, done=True)
        return found

    def compress(
        self,
        config: str | Path,
        checkpoint: str | Path,
        options: Mapping[str, Any],
        compression: Compression,
        folder: Path,
        tell: Callable[[str], Any] = str,
    ) -> Compressed:
        """Compress a model, or find what was compressed before.

        Args:
            config: The config file.
            checkpoint: The weights of the plain model.
            options: Dotted keys of the config to values; they are merged
                into the config that is written.
            compression: What to do.
            folder: Where both files, their record and the log go.
            tell: Takes the time left, as often as the tool tells it.

        Raises:
            UserError: A file is missing, the compression fails, or it is
                not done and nothing may be made.
        """
        checkpoint = check_checkpoint(checkpoint)
        cfg = self._load(config, options)
        recipe = make_recipe(
            cfg, tuple(cfg), checkpoint, compression=compression.keys()
        )
        written = Compressed(*compression.files(folder, config))
        record = folder / 'compressed.json'
        if all(map(Path.is_file, written)) and read_back(record, recipe):
            return written
        if not self.may_test:
            raise UserError(f'no compressed model in {folder}')
        record.unlink(missing_ok=True)
        command = ['compress.py', config, checkpoint, '--out', folder]
        command += compression.arguments()
        self._run(command, options, folder, tell)
        keep(record, recipe)
        return written

    def _load(self, config: str | Path, options: Mapping[str, Any]) -> Config:
        with self._reading:  # mmengine does not say that threads may
            return load_config(config, dict(options))

    def _run(
        self,
        command: list[Any],
        options: Mapping[str, Any],
        folder: Path,
        tell: Callable[[str], Any],
    ) -> None:
        script, *arguments = command
        run_tool_process(
            [self.tools / script, *arguments],
            options,
            folder / f'{Path(script).stem}.log',
            self.threads,
            tell,
            self._children,
        )


def last_checkpoint(folder: Path) -> Path | None:
    """Find the newest checkpoint of a training, also of a moved one."""
    try:
        name = Path((folder / 'last_checkpoint').read_text().strip()).name
    except OSError:
        return None
    path = folder / name
    return path if path.is_file() else None


def cost_option(cfg: Config) -> str:
    """Return the option that lets the metric of the cost write its file.

    Raises:
        UserError: The evaluator has none of :data:`COST_METRICS`.
    """
    evaluator = cfg.get('test_evaluator')
    if isinstance(evaluator, dict):
        places = {'test_evaluator': evaluator}
    else:
        places = {
            f'test_evaluator.{index}': metric
            for index, metric in enumerate(evaluator or ())
        }
    for place, metric in places.items():
        if metric.get('type') in COST_METRICS:
            return f'{place}.out_file'
    raise UserError(
        f'expected one of {", ".join(COST_METRICS)} in test_evaluator of '
        f'{cfg.filename}: the cost of a model is to be compared'
    )


def _fingerprint(weights: str) -> str:
    if '://' in weights:
        return weights
    status = os.stat(weights)
    return _hash_of_file(weights, status.st_size, status.st_mtime_ns)


@functools.lru_cache
def _hash_of_file(path: str, size: int, changed: int) -> str:
    """Return a file's SHA-256, worked out anew when it was written to."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()

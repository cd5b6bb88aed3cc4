"""What a result was made from, so that it is made once."""

import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from mmengine.config import Config

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


def _fingerprint(weights: str) -> str:
    if '://' in weights:
        return weights
    status = os.stat(weights)
    return _hash_of_file(weights, status.st_size, status.st_mtime_ns)


@functools.lru_cache
def _hash_of_file(path: str, size: int, changed: int) -> str:
    """SHA-256 of a file, worked out anew when it was written to."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()

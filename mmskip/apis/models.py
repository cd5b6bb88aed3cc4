"""Models of any host, from a config and a checkpoint."""

import logging
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import CheckpointLoader
from torch import nn

from mmskip.engine.video_hook import untrained_gates

from .errors import UserError, one_line
from .weights import load_weights, warn_of_unused

# Host package -> the extra of this package that installs it.
HOSTS = {
    'mmdet': 'det',
    'mmpose': 'pose',
    'mmaction': 'action',
    'mmseg': 'seg',
}


def load_config(
    path: str | PathLike,
    options: dict[str, Any] | None = None,
) -> Config:
    """Read a config file and merge the options of the command line.

    Args:
        path: The config file.
        options: Dotted keys to values, as ``DictAction`` makes them.

    Raises:
        UserError: No such file, or mmengine cannot make a config of it.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'config not found: {path}')
    try:
        cfg = Config.fromfile(path)
    except Exception as error:
        # A config is Python: reading it may raise anything.
        raise UserError(
            f'cannot read config {path}: '
            f'{type(error).__name__}: {one_line(error)}'
        ) from error
    if options:
        try:
            cfg.merge_from_dict(options)
        except (AssertionError, AttributeError, KeyError, TypeError) as error:
            raise UserError(
                f'--cfg-options {options} do not fit {path}: {one_line(error)}'
            ) from error
    return cfg


def import_host(cfg: Config) -> str | None:
    """Import the package a config is for and register what it holds.

    Args:
        cfg: Its ``default_scope`` names the host.

    Returns:
        ``'mmdet'``, ``'mmpose'``, ``'mmaction'``, ``'mmseg'``, or ``None``
        for a config without a scope or with one of mmengine's own.

    Raises:
        UserError: The host is unknown or cannot be imported.
    """
    scope = cfg.get('default_scope')
    if scope in (None, 'mmengine', 'mmskip'):
        return None
    if scope not in HOSTS:
        raise UserError(
            f'default_scope={scope!r} in the config: expected one of '
            f'{", ".join(HOSTS)}'
        )
    try:
        utils = import_module(f'{scope}.utils')
        utils.register_all_modules(init_default_scope=False)
    except (ImportError, AssertionError) as error:
        raise UserError(
            f'the config needs {scope} (default_scope={scope!r}), which '
            f'cannot be imported: {one_line(error)}; install it with '
            f"pip install 'mmskip[{HOSTS[scope]}]'"
        ) from error
    return scope


def check_checkpoint(path: str | PathLike) -> str:
    """Check that a checkpoint file exists; addresses pass unchecked.

    Args:
        path: A file, or an address such as ``https://...`` or
            ``torchvision://resnet50``.

    Raises:
        UserError: ``path`` is not an address, and no such file exists.
    """
    path = str(path)
    if '://' not in path and not Path(path).is_file():
        raise UserError(f'checkpoint not found: {path}')
    return path


def set_work_dir(
    cfg: Config, config_path: str | PathLike, work_dir: str | None
) -> None:
    """Choose ``work_dir``: command line, else config, else the file's name."""
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(config_path).stem)


def init_model(
    config: str | PathLike | Config,
    checkpoint: str | PathLike | None = None,
    device: str = 'cpu',
    cfg_options: dict[str, Any] | None = None,
) -> nn.Module:
    """Build a model in eval mode, whichever host its config is for.

    The counterpart of ``mmdet.apis.init_detector`` and
    ``mmpose.apis.init_model``; no dataset is built and no pretrained
    backbone is downloaded.

    Args:
        config: A config file or a config.
        checkpoint: Weights; ``None`` leaves random ones.
        device: Such as ``'cpu'`` or ``'cuda:0'``.
        cfg_options: Dotted keys to values, merged into the config.

    Returns:
        The model, with ``cfg`` (the config) and ``dataset_meta`` (from the
        checkpoint, else from the config's dataset) attached.

    Raises:
        UserError: A file is missing, the host is not installed, the device
            is not there, or the weights are not those of the model.
        InputError: Its learned gates are not those of the model.
    """
    if isinstance(config, Config):
        if cfg_options:
            config.merge_from_dict(cfg_options)
    else:
        config = load_config(config, cfg_options)
    if checkpoint is not None:
        checkpoint = check_checkpoint(checkpoint)
    import_host(config)
    init_default_scope(config.get('default_scope') or 'mmengine')
    model = _build(config)
    meta = _load(model, checkpoint) if checkpoint is not None else {}
    model.dataset_meta = meta or _meta_of_config(config)
    model.cfg = config
    try:
        model.to(device)
    except (AssertionError, RuntimeError) as error:
        raise UserError(f'cannot use device {device!r}: {error}') from error
    return model.eval()


def _build(config: Config) -> nn.Module:
    """Build ``config.model`` as the Runner would."""
    if 'model' not in config:
        raise UserError("the config has no 'model'")
    model_cfg = config.model.copy()
    if 'data_preprocessor' in config:
        model_cfg.setdefault('data_preprocessor', config.data_preprocessor)
    if 'backbone' in model_cfg:
        # Not None: X3D hands what it does not know to its blocks.
        model_cfg.backbone.pop('init_cfg', None)
    return revert_sync_batchnorm(MODELS.build(model_cfg))


def _load(model: nn.Module, path: str) -> dict[str, Any]:
    """Load weights; returns the dataset's meta information, if saved."""
    loaded = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    is_untrained = load_weights(model, loaded, path)
    warn_of_unused(model, loaded, path)
    if is_untrained:
        print_log(untrained_gates(path), 'current', logging.WARNING)
    meta = loaded.get('meta', {})
    found = meta.get('dataset_meta') or {}
    if not found and 'CLASSES' in meta:
        found = {'classes': meta['CLASSES']}
    return {key.lower(): value for key, value in found.items()}


def _meta_of_config(config: Config) -> dict[str, Any]:
    """Read classes, keypoints and colours of the config's dataset."""
    loader = config.get('test_dataloader') or config.get('train_dataloader')
    dataset = (loader or {}).get('dataset')
    while dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    if not dataset:
        return {}
    kind = dataset.type
    if isinstance(kind, str):
        scope = dataset.get('_scope_', config.get('default_scope'))
        with DATASETS.switch_scope_and_registry(scope) as registry:
            kind = registry.get(kind)
    meta = dict(getattr(kind, 'METAINFO', {}))
    meta.update(dataset.get('metainfo') or {})
    if 'from_file' in meta or 'keypoint_info' in meta:
        utils = import_module('mmpose.datasets.datasets.utils')
        return utils.parse_pose_metainfo(meta)
    return meta

"""Building a model of any host from its config and a checkpoint."""

import logging
from importlib import import_module
from os import PathLike
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import CheckpointLoader
from torch import nn

from mmskip.apis.config import check_checkpoint, import_host, load_config
from mmskip.apis.errors import UserError
from mmskip.apis.weights import load_weights, warn_of_unused
from mmskip.engine.video_hook import untrained_gates


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
    """Classes, keypoints and colours from the dataset's class and config."""
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

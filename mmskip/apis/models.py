"""Models of any host, from a config and a checkpoint.

Weights that are the model's are loaded, and others refused: mmengine loads
what fits, writes the rest into a warning and goes on, so that a model whose
backbone is random is tested as if it were trained.
"""

import logging
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from mmskip.compression.svd import check_factors
from mmskip.core import Converted
from mmskip.core.convert import check_gates
from mmskip.engine.video_hook import untrained_gates
from mmskip.plan import accelerate

from .errors import UserError, one_line

# Host package -> the extra of this package that installs it.
HOSTS = {
    'mmdet': 'det',
    'mmpose': 'pose',
    'mmaction': 'action',
    'mmseg': 'seg',
}
_WRAPPER = 'module.'
# Buffers that a model cannot make itself.
_LEARNED_BUFFERS = ('running_mean', 'running_var')
_NAMED = 3
_ANOTHER = 'is it the checkpoint of another config?'


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
    meta = (
        _load_checkpoint(model, checkpoint) if checkpoint is not None else {}
    )
    model.dataset_meta = meta or _meta_of_config(config)
    model.cfg = config
    try:
        model.to(device)
    except (AssertionError, RuntimeError) as error:
        raise UserError(f'cannot use device {device!r}: {error}') from error
    return model.eval()


def accelerate_model(
    model: nn.Module,
    precision: str = 'float32',
    calibration: str | PathLike | None = None,
) -> None:
    """Make a model fast, see :func:`mmskip.accelerate`.

    Args:
        model: From :func:`init_model`; changed in place.
        precision: That of the option ``--precision``.
        calibration: That of ``--calibration``.

    Raises:
        UserError: The model cannot run in this precision.
    """
    try:
        accelerate(model, precision, calibration)
    except ValueError as error:
        raise UserError(f'--precision {precision}: {error}') from error


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


def _load_checkpoint(model: nn.Module, path: str) -> dict[str, Any]:
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


def load_weights(
    model: nn.Module,
    checkpoint: dict[str, Any],
    path: str,
    tuning: bool = False,
) -> bool:
    """Load the weights of a checkpoint if they are those of a model.

    Every parameter and every running statistic has to be there, of the
    model's shape and finite. What a conversion adds to the layers of a plain
    checkpoint may be missing, and so may buffers that the model makes
    itself.

    Args:
        model: It is loaded into this one, wrapped or not.
        checkpoint: What the file holds.
        path: What messages call it.
        tuning: To train from other weights: what is missing or has another
            shape, as the head of other classes, is counted in a warning.

    Returns:
        Whether the model has learned gates and the checkpoint none.

    Raises:
        UserError: The weights are not the model's, or not finite.
        InputError: Its learned gates or factors are not those of the model.
    """
    model = unwrap_fully(model)
    saved = weights_of(checkpoint, path)
    known = model.state_dict()
    if known.keys().isdisjoint(saved):
        raise UserError(
            f'no weight in {path} belongs to the model of the config '
            f'({type(model).__name__}); its first key is '
            f'{next(iter(saved), None)!r}: {_ANOTHER}'
        )
    check_factors(model, saved, path)
    is_untrained = check_gates(model, saved, path)
    check_finite(model, saved, path)
    added = set(keys_of_conversions(model)) if is_untrained else set()
    learned = set(keys_to_learn(model)) - added
    try:
        missing, misshapen = _load_fitting(model, saved)
    except RuntimeError as error:
        raise UserError(
            f'{path} cannot be loaded into the model of the config '
            f'({type(model).__name__}): {one_line(error)}'
        ) from error
    missing = [key for key in missing if key in learned]
    if missing or misshapen:
        _tell_misfit(model, path, len(learned), missing, misshapen, tuning)
    return is_untrained


def warn_of_unused(
    model: nn.Module, checkpoint: dict[str, Any], path: str
) -> None:
    """Count in a warning what a checkpoint has beyond a model."""
    known = unwrap_fully(model).state_dict()
    unused = [key for key in weights_of(checkpoint, path) if key not in known]
    if unused:
        print_log(
            f'{path}: {len(unused):,} weights in it have other names than '
            f'those of the model ({some(unused)})',
            'current',
            logging.WARNING,
        )


def weights_of(checkpoint: Any, path: str) -> OrderedDict[str, Tensor]:
    """Return the weights in a checkpoint, named as without a wrapper.

    Raises:
        UserError: There are none.
    """
    is_dict = isinstance(checkpoint, dict)
    saved = checkpoint.get('state_dict', checkpoint) if is_dict else checkpoint
    if not isinstance(saved, dict) or not all(
        isinstance(key, str) for key in saved
    ):
        raise UserError(
            f'no weights in {path}: expected a dict from names to tensors, '
            f'got {type(saved).__name__}'
        )
    weights = OrderedDict(
        (key.removeprefix(_WRAPPER), value) for key, value in saved.items()
    )
    weights._metadata = getattr(saved, '_metadata', OrderedDict())
    return weights


def unwrap_fully(model: nn.Module) -> nn.Module:
    """Return the model that weights go into, without what is around it."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def keys_to_learn(model: nn.Module) -> Iterator[str]:
    """Yield the keys of parameters and of statistics of batch norms."""
    for name, _ in model.named_parameters(remove_duplicate=False):
        yield name
    for name, _ in model.named_buffers(remove_duplicate=False):
        if name.endswith(_LEARNED_BUFFERS):
            yield name


def keys_of_conversions(model: nn.Module) -> Iterator[str]:
    """Yield the keys of what conversions add: gates, cheap maps."""
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, Converted) and hasattr(module, 'gate'):
            for key in module.state_dict():
                if '.' in key:
                    yield f'{name}.{key}'


def check_finite(
    model: nn.Module, saved: dict[str, Tensor], path: str
) -> None:
    """Refuse NaN and infinity in weights, under whatever names they are.

    A mask among the buffers may hold the negative infinity.

    Raises:
        UserError: There are some.
    """
    learned = set(keys_to_learn(model))

    def is_finite(key: str, value: Tensor) -> bool:
        right = value.isfinite()
        if key not in learned:
            right |= value == -torch.inf
        return bool(right.all())

    wrong = [
        key
        for key, value in saved.items()
        if isinstance(value, Tensor) and not is_finite(key, value)
    ]
    if wrong:
        raise UserError(
            f'{path}: {len(wrong):,} weights in it are not finite '
            f'({some(wrong)}): the training that wrote it had diverged; use '
            'an earlier checkpoint'
        )


def some(keys: Iterable[str]) -> str:
    """Name the first of some keys."""
    keys = list(keys)
    more = ', ...' if len(keys) > _NAMED else ''
    return ', '.join(keys[:_NAMED]) + more if keys else 'none'


def _tell_misfit(
    model: nn.Module,
    path: str,
    total: int,
    missing: list[str],
    misshapen: list[str],
    tuning: bool,
) -> None:
    """Refuse a checkpoint that does not fit; warn, if it is tuned from."""
    if not tuning:
        raise UserError(
            f'{path} does not fit the model of the config '
            f'({type(model).__name__}): of its {total:,} weights '
            f'{len(missing):,} are not in the file ({some(missing)}) and '
            f'{len(misshapen):,} have another shape ({some(misshapen)}); '
            f'{_ANOTHER} To train from what fits, give it to tools/train.py '
            'as load_from'
        )
    print_log(
        f'{path}: of {total:,} weights of the model {len(missing):,} are '
        f'not in it and {len(misshapen):,} have another shape '
        f'({some([*missing, *misshapen])}): they begin untrained',
        'current',
        logging.WARNING,
    )


def _load_fitting(
    model: nn.Module, saved: OrderedDict[str, Tensor]
) -> tuple[list[str], list[str]]:
    """Load what fits; returns the keys that are missing or of other shape.

    By torch's own loading, which knows the layers that take weights of
    another form.
    """
    try:
        return model.load_state_dict(saved, strict=False).missing_keys, []
    except RuntimeError as error:
        names = re.findall(r'size mismatch for (\S+):', str(error))
        misshapen = [name for name in names if name in saved]
        if not misshapen:
            raise
    fitting = saved.copy()
    fitting._metadata = saved._metadata
    for name in misshapen:
        del fitting[name]
    missing, again = _load_fitting(model, fitting)
    return [key for key in missing if key not in misshapen], misshapen + again

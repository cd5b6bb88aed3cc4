"""Reading a config for any of the three hosts, and checking what it names."""

from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmskip.apis.errors import UserError, one_line

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

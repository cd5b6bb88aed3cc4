"""How mmengine finds installed packages and the configs inside them."""

import importlib.metadata
import importlib.util
import os
import sys

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.utils import package_utils


def is_installed(package: str) -> bool:
    """Whether a distribution or an importable module has this name."""
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        spec = importlib.util.find_spec(package)
        return spec is not None and spec.origin is not None
    return True


def package2module(package: str) -> str:
    """The first top-level module of a distribution.

    Raises:
        ValueError: The distribution does not say.
    """
    text = importlib.metadata.distribution(package).read_text('top_level.txt')
    if not text or not text.split():
        raise ValueError(f'can not infer the module name of {package}')
    return text.split()[0]


def get_installed_path(package: str) -> str:
    """The folder of a package, given its distribution or module name.

    Raises:
        importlib.metadata.PackageNotFoundError: It is not installed.
        RuntimeError: It is a namespace package, which has no one folder.
    """
    module = package
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        if importlib.util.find_spec(package) is None:
            raise
    else:
        folder = str(distribution.locate_file(package))
        if os.path.exists(folder):
            return folder
        if importlib.util.find_spec(package) is None:
            module = package2module(package)
    spec = importlib.util.find_spec(module)
    if spec is None:
        raise importlib.metadata.PackageNotFoundError(package)
    if spec.origin is None:
        raise RuntimeError(
            f'{package} is a namespace package, which is invalid for '
            '`get_installed_path`'
        )
    return os.path.dirname(spec.origin)


def is_editable(module: str) -> bool:
    """Whether a package lies elsewhere than its metadata suggests."""
    try:
        name = MODULE2PACKAGE.get(module, module)
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return not os.path.exists(str(distribution.locate_file(module)))


def find_installed_packages() -> None:
    """Let mmengine find ``mmdet::...`` and the like, two defects in one.

    - setuptools 82 dropped ``pkg_resources``, which mmengine 0.10.7 imports
      at the first use of such a name:
      https://github.com/open-mmlab/mmengine/pull/1676
    - after ``pip install -e`` (PEP 660) it takes the folder of the metadata
      for the folder of the code, in which there are no configs:
      https://github.com/open-mmlab/mmpose/issues/3241

    The three functions are replaced in every module that imported them.
    """
    modules = ('mmskip', 'mmdet', 'mmpose', 'mmaction', 'mmseg')
    if importlib.util.find_spec('pkg_resources') is not None and not any(
        map(is_editable, modules)
    ):
        return
    for new in (is_installed, package2module, get_installed_path):
        old = getattr(package_utils, new.__name__)
        for module in list(sys.modules.values()):
            if getattr(module, '__dict__', {}).get(new.__name__) is old:
                setattr(module, new.__name__, new)


def announce_configs() -> None:
    """Let ``_base_ = 'mmskip::...'`` resolve, to what can be built.

    - mmengine takes such names only from packages on a list in its source:
      https://github.com/open-mmlab/mmengine/issues/1581
    - It then builds what it finds there in the scope of the package. Our
      configs are written for their host's, their ``default_scope``, and name
      what is ours as ``mmskip.X``: in ours there is no ``PackDetInputs``.
    """
    MODULE2PACKAGE.setdefault('mmskip', 'mmskip')
    find = Config._get_cfg_path
    if find.__module__ == __name__:
        return

    def find_config(cfg_path: str, filename: str) -> tuple[str, str | None]:
        path, scope = find(cfg_path, filename)
        return path, None if scope == 'mmskip' else scope

    Config._get_cfg_path = staticmethod(find_config)

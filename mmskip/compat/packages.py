"""Installed packages: how they are imported and mended, their configs."""

import contextlib
import functools
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

import torch
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import MODELS
from mmengine.utils import package_utils
from torch.autograd import Function

DRN = 'mmaction.models.localizers.drn'
OPS = 'mmcv.ops'
SSD_HEAD = 'mmdet.models.dense_heads.ssd_head'


class MendingFinder(MetaPathFinder):
    """Finds one module as usual, and mends it on import.

    Args:
        name: Name of the module.
        mend: What is called with it when it has been executed.
    """

    def __init__(self, name: str, mend: Callable[[ModuleType], None]) -> None:
        self.name = name
        self._mend = mend

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Find the module with a loader that mends it; nothing else."""
        if fullname != self.name:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_mend(module: ModuleType) -> None:
            execute(module)
            self._mend(module)

        spec.loader.exec_module = execute_and_mend
        return spec


def mend_on_import(name: str, mend: Callable[[ModuleType], None]) -> None:
    """Mend a module now if it is there, else as soon as it is imported.

    Args:
        name: Name of the module.
        mend: Mends it, in place; it may be called twice.
    """
    if name in sys.modules:
        mend(sys.modules[name])
    elif not any(
        isinstance(finder, MendingFinder) and finder.name == name
        for finder in sys.meta_path
    ):
        sys.meta_path.insert(0, MendingFinder(name, mend))


@functools.cache
def define_torchvision_schemas() -> torch.library.Library | None:
    """Let ``import torchvision`` pass where its compiled part does not load.

    PyPI serves CUDA builds of torchvision. Next to a CPU build of torch (or
    one of another version) its library does not load, and the import dies
    with ``operator torchvision::nms does not exist``. Declaring the two
    operators lets the Python part (models, transforms) load; calling
    ``torchvision.ops.nms`` itself still fails, with a message of torch's.

    Seen with torch 2.13.0+cpu and torchvision 0.28.0 and 0.29.2:
    https://github.com/pytorch/vision/issues/8985

    Returns:
        The library that holds the declarations, which last as long as it
        does (hence the cache), or None where nothing had to be done.
    """
    if 'torchvision' in sys.modules:
        return None
    spec = importlib.util.find_spec('torchvision')
    if spec is None or spec.submodule_search_locations is None:
        return None
    compiled = PathFinder.find_spec('_C', spec.submodule_search_locations)
    if compiled is not None and compiled.origin is not None:
        with contextlib.suppress(OSError):
            torch.ops.load_library(compiled.origin)
    if hasattr(torch.ops.torchvision, 'nms'):
        return None
    library = torch.library.Library('torchvision', 'FRAGMENT')
    for name in ('nms', 'qnms'):
        library.define(
            f'{name}(Tensor dets, Tensor scores, float iou_threshold)'
            ' -> Tensor'
        )
    return library


class MissingDRN:
    """Stands in for mmaction2's DRN, whose code its wheel lacks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise ImportError(
            'DRN is not available: the wheel of mmaction2 1.2.0 was published '
            "without the folder 'mmaction/models/localizers/drn'; to use DRN, "
            'install mmaction2 from a source checkout with an empty '
            "'__init__.py' added to that folder"
        )


class DRNFinder(MetaPathFinder, Loader):
    """Offers an empty ``drn`` package; asked only when no finder has one."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname not in (DRN, f'{DRN}.drn'):
            return None
        return ModuleSpec(fullname, self, is_package=fullname == DRN)

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ == DRN:
            return
        vars(module)['DRN'] = MissingDRN
        # Registered as the real one would be, so that a config that names
        # it gets the explanation and not just "not in the registry".
        registry = MODELS.children.get('mmaction')
        if registry is not None:
            registry.register_module(name='DRN', module=MissingDRN)


def provide_missing_drn() -> None:
    """Let ``import mmaction.models`` pass without its ``drn`` package.

    The folder has no ``__init__.py``, so the wheel of mmaction2 1.2.0 was
    built without it, yet ``mmaction.models.localizers`` imports it. The
    finder comes last: a ``drn`` that exists is found before it.

    https://github.com/open-mmlab/mmaction2/issues/2714
    """
    if not any(isinstance(finder, DRNFinder) for finder in sys.meta_path):
        sys.meta_path.append(DRNFinder())


def is_installed(package: str) -> bool:
    """Tell whether a distribution or an importable module has this name."""
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        spec = importlib.util.find_spec(package)
        return spec is not None and spec.origin is not None
    return True


def package2module(package: str) -> str:
    """Return the first top-level module of a distribution.

    Raises:
        ValueError: The distribution does not say.
    """
    text = importlib.metadata.distribution(package).read_text('top_level.txt')
    if not text or not text.split():
        raise ValueError(f'can not infer the module name of {package}')
    return text.split()[0]


def get_installed_path(package: str) -> str:
    """Find the folder of a package, by its distribution or module name.

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
    """Tell whether a package lies elsewhere than its metadata suggests."""
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


def let_mmcv_read_any_layout() -> None:
    """Give mmcv's compiled operators the memory that they can read.

    Most of them read what they get as if it were contiguous. Of an image
    that is channels last, as behind ``model.to(memory_format=
    torch.channels_last)``, deformable convolutions, RoI pooling, CARAFE and
    others compute something else and say nothing (mmcv 2.1.0); only the
    first version of deformable convolutions refuses it ("weight tensor has
    to be contiguous"). Each gets contiguous tensors, forward and backward.
    """
    mend_on_import(OPS, _mend_operators)


def let_ssd_head_predict() -> None:
    """Let SSD and SSDLite predict with mmdet 3.3.0.

    ``SSDHead`` skips the constructor that sets ``loss_cls``, which
    predictions ask for since 3.2: ``'SSDHead' object has no attribute
    'loss_cls'``. mmdet is not imported for that; the head is mended when it
    is.

    https://github.com/open-mmlab/mmdetection/issues/11780
    """
    mend_on_import(SSD_HEAD, _mend_ssd_head)


def _mend_operators(module: ModuleType) -> None:
    parts = [m for name, m in sys.modules.items() if _is_part(name)]
    for part in parts:
        for kind in vars(part).values():
            if (
                isinstance(kind, type)
                and issubclass(kind, Function)
                and _is_part(kind.__module__)
            ):
                _mend_function(kind)


def _is_part(name: str) -> bool:
    return name == OPS or name.startswith(f'{OPS}.')


def _mend_function(kind: type[Function]) -> None:
    for name in ('forward', 'backward'):
        method = vars(kind).get(name)
        if not isinstance(method, staticmethod):
            continue
        function = method.__func__
        if not hasattr(function, 'reads_any_layout'):
            setattr(kind, name, staticmethod(_with_contiguous(function)))


def _with_contiguous(function: Callable) -> Callable:
    """Wrap a function so that it gets contiguous copies where needed."""

    @functools.wraps(function)
    def read_contiguous(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        kwargs = {key: _contiguous(value) for key, value in kwargs.items()}
        return function(ctx, *map(_contiguous, args), **kwargs)

    read_contiguous.reads_any_layout = True
    return read_contiguous


def _contiguous(value: Any) -> Any:
    is_dense = torch.is_tensor(value) and value.layout == torch.strided
    return value.contiguous() if is_dense else value


def _mend_ssd_head(module: ModuleType) -> None:
    construct = module.SSDHead.__init__
    if hasattr(construct, '__wrapped__'):
        return

    @functools.wraps(construct)
    def construct_with_loss(self: Any, *args: Any, **kwargs: Any) -> None:
        construct(self, *args, **kwargs)
        if not hasattr(self, 'loss_cls'):
            self.loss_cls = None

    module.SSDHead.__init__ = construct_with_loss

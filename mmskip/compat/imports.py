"""Packages that are installed and yet cannot be imported."""

import contextlib
import functools
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

import torch
from mmengine.registry import MODELS

DRN = 'mmaction.models.localizers.drn'


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

"""mmdet's SSD head cannot predict."""

import functools
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

SSD_HEAD = 'mmdet.models.dense_heads.ssd_head'


class SSDHeadFinder(MetaPathFinder):
    """Finds the module of the SSD head as usual, and mends it on import."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Find the SSD head with a loader that mends it; nothing else."""
        if fullname != SSD_HEAD:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_mend(module: ModuleType) -> None:
            execute(module)
            _mend(module)

        spec.loader.exec_module = execute_and_mend
        return spec


def let_ssd_head_predict() -> None:
    """Let SSD and SSDLite predict with mmdet 3.3.0.

    ``SSDHead`` skips the constructor that sets ``loss_cls``, which
    predictions ask for since 3.2: ``'SSDHead' object has no attribute
    'loss_cls'``. mmdet is not imported for that; the head is mended when it
    is.

    https://github.com/open-mmlab/mmdetection/issues/11780
    """
    if SSD_HEAD in sys.modules:
        _mend(sys.modules[SSD_HEAD])
    elif not any(isinstance(f, SSDHeadFinder) for f in sys.meta_path):
        sys.meta_path.insert(0, SSDHeadFinder())


def _mend(module: ModuleType) -> None:
    construct = module.SSDHead.__init__
    if hasattr(construct, '__wrapped__'):
        return

    @functools.wraps(construct)
    def construct_with_loss(self: Any, *args: Any, **kwargs: Any) -> None:
        construct(self, *args, **kwargs)
        if not hasattr(self, 'loss_cls'):
            self.loss_cls = None

    module.SSDHead.__init__ = construct_with_loss

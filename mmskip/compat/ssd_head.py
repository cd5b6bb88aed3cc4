"""mmdet's SSD head cannot predict."""

import functools
from types import ModuleType
from typing import Any

from .mending import mend_on_import

SSD_HEAD = 'mmdet.models.dense_heads.ssd_head'


def let_ssd_head_predict() -> None:
    """Let SSD and SSDLite predict with mmdet 3.3.0.

    ``SSDHead`` skips the constructor that sets ``loss_cls``, which
    predictions ask for since 3.2: ``'SSDHead' object has no attribute
    'loss_cls'``. mmdet is not imported for that; the head is mended when it
    is.

    https://github.com/open-mmlab/mmdetection/issues/11780
    """
    mend_on_import(SSD_HEAD, _mend_ssd_head)


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

"""Repairs for operators and heads of mmcv and mmdet."""

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch.autograd import Function

from .packages import mend_on_import

OPS = 'mmcv.ops'
SSD_HEAD = 'mmdet.models.dense_heads.ssd_head'


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

"""Make a model as fast as it can be, for use and not for training."""

from torch import nn

from mmskip.engine.video_hook import is_converted
from mmskip.layers import lay_kernels_last
from mmskip.ops import active_backend
from mmskip.runtime import fold, propagate_changes


def make_fast(model: nn.Module, dense: bool = False) -> nn.Module:
    """Fold a model and let it follow changes, in place.

    Kernels channels last, :func:`mmskip.fold` and, of a converted model on
    the CPU with the native backend, :func:`mmskip.propagate_changes`. There
    is no way back.

    Args:
        model: Any model in eval mode.
        dense: It will run densely, whether converted or not.

    Returns:
        The model.
    """
    lay_kernels_last(model)
    fold(model)
    on_cpu = all(p.is_cpu for p in model.parameters())
    if (
        is_converted(model)
        and on_cpu
        and not dense
        and active_backend() == 'native'
    ):
        propagate_changes(model)
    return model

"""What the hosts can do to a model that goes past its layers' forward."""

from collections.abc import Iterator

from mmengine.model import efficient_conv_bn_eval
from torch import fx, nn

from .errors import InputError


def refuse_bypasses(model: nn.Module, layers: set[nn.Module]) -> None:
    """Refuse what would compute converted layers without their forward.

    mmcv and mmengine can fuse a convolution with the batch norm behind it
    while they run (``efficient_conv_bn_eval``): it would never skip, and
    nothing would say so.

    Args:
        model: That has the layers.
        layers: Converted ones, or those to be converted.

    Raises:
        InputError: A layer is fused.
    """
    for name in _fused(model, layers):
        raise InputError(
            f'{name}: mmcv or mmengine replaces the forward of this '
            'convolution (efficient_conv_bn_eval), so it would never skip; '
            'set efficient_conv_bn_eval=False, or remove it from the config'
        )


def _fused(model: nn.Module, layers: set[nn.Module]) -> Iterator[str]:
    names = dict(model.named_modules())
    for name, module in names.items():
        flag = getattr(module, 'efficient_conv_bn_eval_forward', None)
        if flag is not None and getattr(module, 'conv', None) in layers:
            yield f'{name}.conv'.lstrip('.')
        graph = getattr(module.__dict__.get('forward'), '__self__', None)
        if isinstance(graph, fx.GraphModule) and _is_fused_graph(graph):
            for inner, part in module.named_modules():
                if part in layers:
                    yield f'{name}.{inner}'.strip('.')


def _is_fused_graph(graph: fx.GraphModule) -> bool:
    control = efficient_conv_bn_eval.efficient_conv_bn_eval_control
    return any(node.target is control for node in graph.graph.nodes)

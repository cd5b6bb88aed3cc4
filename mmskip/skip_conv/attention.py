"""Attention within windows, of which only those that changed are computed.

A window's result depends on its own tokens only. Where the layer in front
(``qkv``) has computed none of them anew, the result is what it was: exact,
without a gate of its own. Ours; the paper has no transformers. The blocks are
those of Swin transformers, as mmdet, mmpose and mmaction2 have them.
"""

from functools import cache
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from mmskip.core import Converted

#: Classes of the hosts that are ``proj(attention(qkv(x)))`` over windows.
WINDOW_CLASSES = {
    ('mmaction.models.backbones.swin', 'WindowAttention3D'),
    ('mmdet.models.backbones.swin', 'WindowMSA'),
    ('mmpose.models.backbones.hrformer', 'WindowMSA'),
    ('mmpose.models.backbones.swin', 'WindowMSA'),
}


def attend(
    qkv: Tensor,
    num_heads: int,
    scale: float,
    bias: Tensor | None,
    mask: Tensor | None,
) -> Tensor:
    """Compute the attention of each window.

    Args:
        qkv: Queries, keys and values (W, N, 3 * C) of N tokens in W windows.
        num_heads: Number of heads H.
        scale: Factor of the products of queries and keys.
        bias: Added to them, (H, N, N), the same in all windows.
        mask: Added to them, (w, N, N), of every w windows in their order.

    Returns:
        (W, N, C), the heads side by side.
    """
    if has_torch_function_unary(qkv):  # it is traced
        arguments = qkv, num_heads, scale, bias, mask
        return handle_torch_function(attend, (qkv,), *arguments)
    windows, tokens, channels = qkv.shape
    parts = qkv.reshape(windows, tokens, 3, num_heads, -1)
    query, key, value = parts.permute(2, 0, 3, 1, 4)
    if mask is not None:
        mask = mask[:, None].repeat(windows // len(mask), 1, 1, 1)
    if bias is not None:
        mask = bias[None] if mask is None else bias + mask
    result = F.scaled_dot_product_attention(
        query, key, value, mask, scale=scale
    )
    return result.transpose(1, 2).reshape(windows, tokens, channels // 3)


def masks_of(mask: Tensor | None, windows: Tensor) -> Tensor | None:
    """Take the masks of some windows, see :func:`attend`.

    Args:
        mask: (w, N, N), or None.
        windows: Numbers of windows, int64.
    """
    return None if mask is None else mask[windows % len(mask)]


class SkipAttentionMixin(Converted):
    """Makes a module of attention within windows skip what did not change.

    It remembers nothing outside of streams, and is the host's module then.
    """

    dense_class: type

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Run in a stream or clip, else as the host's.

        Args:
            x: Tokens (W, N, C) of W windows.
            mask: (w, N, N) or None, see :func:`attend`.
        """
        binding = self.qkv._binding
        if binding is None or self.training:
            return super().forward(x, mask)
        options = self.num_heads, self.scale, self.bias(x.shape[1]), mask
        result = binding.attend(self.qkv, self.qkv(x), *options)
        return self.proj(result)

    def bias(self, tokens: int) -> Tensor | None:
        """Look up what is added to products by relative position, (H, N, N).

        Args:
            tokens: N, at most those of a window.
        """
        table = getattr(self, 'relative_position_bias_table', None)
        if table is None:
            return None
        index = self.relative_position_index[:tokens, :tokens].reshape(-1)
        return table[index].reshape(tokens, tokens, -1).permute(2, 0, 1)

    def revert(self) -> None:
        """Give the host's module back, in place."""
        self.__class__ = self.dense_class

    def __reduce_ex__(self, protocol: int) -> tuple:
        return _make, (self.dense_class,), self.__dict__


@cache
def skip_class(kind: type) -> type:
    """Make the class that attention of a kind gets in a conversion."""
    members = {'dense_class': kind, '__module__': __name__}
    return type(f'Skip{kind.__name__}', (SkipAttentionMixin, kind), members)


def find_attention(model: nn.Module) -> dict[nn.Module, nn.Module]:
    """Find modules of attention within windows, by their ``qkv`` layer."""
    return {
        module.qkv: module
        for module in model.modules()
        if (type(module).__module__, type(module).__name__) in WINDOW_CLASSES
        and type(module.qkv) is nn.Linear
    }


def _make(kind: type) -> Any:
    """Make an empty module, which is unpickled."""
    made = skip_class(kind)
    return made.__new__(made)

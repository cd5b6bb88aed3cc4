"""Attention, whose projections skip, and of which unchanged parts stay.

torch's ``MultiheadAttention`` keeps the weights of its projections to itself
and never calls a layer; other attention modules have a layer and multiply by
its weight (``F.linear(x, self.qkv.weight, bias)``). Both become layers as
those of :mod:`.linear`, which read the weights where they are: parameters
and their names stay.

The products of queries with keys, and of their weights with values, are
computed again where a query, a key or a value changed, as the layers in front
tell, without a gate of its own:

- Within windows, as Swin transformers of mmdet, mmpose and mmaction2 have
  them, a window is computed if one of its tokens changed.
- Over all tokens, a query that changed is computed. So that a key that
  changed does not mean all of them, keys are kept in blocks, see
  :class:`KeyBlocks`.

All of it is ours; the paper has no transformers.
"""

import ast
import inspect
import math
import textwrap
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.overrides import handle_torch_function

from mmskip.core import Converted
from mmskip.reading import InputError

from .kept_attention import AttentionInputs, results_of, writable
from .linear import (
    LAYERS,
    PROJECTIONS,
    Projection,
    SkipLinearApart,
    SkipLinearMixin,
    SkipOutProjection,
    SkipProjection,
)

#: Classes of the hosts that are ``proj(attention(qkv(x)))`` over windows.
WINDOW_CLASSES = {
    ('mmaction.models.backbones.swin', 'WindowAttention3D'),
    ('mmdet.models.backbones.swin', 'WindowMSA'),
    ('mmpose.models.backbones.hrformer', 'WindowMSA'),
    ('mmpose.models.backbones.swin', 'WindowMSA'),
}
#: The same, over all tokens of a sample.
SEQUENCE_CLASSES = {
    ('mmaction.models.backbones.uniformer', 'Attention'),
    ('mmaction.models.backbones.vit_mae', 'Attention'),
}
#: What multiplies tokens with tokens, beside the operator ``@``.
_PRODUCTS = {
    'baddbmm',
    'bmm',
    'einsum',
    'matmul',
    'scaled_dot_product_attention',
}
#: Base classes of the hosts that multiply tokens without a softmax.
_OTHER_PRODUCTS = {
    ('mmcv.cnn.bricks.non_local', '_NonLocalNd'),
    ('mmpose.models.utils.rtmcc_block', 'RTMCCBlock'),
    ('mmpose.models.utils.transformer', 'GAUEncoder'),
}


class SkipMultiheadAttention(Converted, nn.MultiheadAttention):
    """Projects, in a stream or clip, only tokens that changed.

    The products behind are computed again for what changed, see
    :class:`KeptAttention`. Weights need all scores of a query: where they are
    asked for (``need_weights``), a key that changed means all queries. They
    are not computed, and None is returned, where the module around is known
    to drop them: most hosts ask for them and take the output alone.

    Outside of ``stream`` and ``clip`` it is torch's, bit for bit.
    """

    #: True if the module around drops the weights.
    drops_weights = False

    def split(self) -> list[SkipLinearMixin]:
        """Make the layers; they have no gates yet."""
        for name in PROJECTIONS:
            layer = Projection(self, name)
            layer.__class__ = SkipProjection
            self.add_module(name, layer)
        self.out_proj.__class__ = SkipOutProjection
        return [getattr(self, name) for name in LAYERS]

    def revert(self) -> None:
        """Give torch's attention back, in place."""
        for name in PROJECTIONS:
            delattr(self, name)
        self.__dict__.pop('drops_weights', None)
        self.__class__ = nn.MultiheadAttention

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend; see ``torch.nn.MultiheadAttention.forward``.

        Raises:
            InputError: ``is_causal`` is a hint at a mask that is not there.
        """
        if self.query._binding is None:
            return super().forward(
                query,
                key,
                value,
                key_padding_mask,
                need_weights,
                attn_mask,
                average_attn_weights,
                is_causal,
            )
        if is_causal and attn_mask is None:
            raise InputError(
                'expected the causal attn_mask that is_causal=True hints at, '
                'got none'
            )
        tokens = [self._by_sample(x) for x in (query, key, value)]
        layers = (self.query, self.key, self.value)
        tokens = [layer(x) for layer, x in zip(layers, tokens, strict=True)]
        mask = self._merged_mask(attn_mask, key_padding_mask, tokens[0])
        output, weights = self._attend_to(
            tokens, mask, need_weights and not self.drops_weights
        )
        output = self.out_proj(output)
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if query.dim() == 2:
            return output[0], None if weights is None else weights[0]
        if not self.batch_first:
            output = output.transpose(0, 1).contiguous()
        return output, weights

    def _attend_to(
        self, tokens: Sequence[Tensor], mask: Tensor | None, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Compute what is between the projections and the last layer.

        Args:
            tokens: Queries (N, L, C), keys and values (N, S, C).
            mask: See :meth:`_merged_mask`.
            need_weights: True if weights are returned, too.

        Returns:
            Output (N, L, C), and weights (N, heads, L, S) or None.
        """
        binding = self.query._binding
        is_traced = not isinstance(tokens[0], Tensor)
        if is_traced and not need_weights:
            name = binding.name_around(self.query)
            return attend_all(
                *tokens, self.num_heads, mask=mask, name=name
            ), None
        inputs = AttentionInputs.of_tokens(tokens, self.num_heads, mask)

        def attend(some: AttentionInputs) -> tuple[Tensor, Tensor | None]:
            return self._attend(*some[:4], need_weights)

        if is_traced:
            output, weights = attend(inputs)
        else:
            drops = self.training and self.dropout > 0.0
            layers = self.query, self.key, self.value
            output, weights = binding.reuse(
                layers, inputs, attend, not (need_weights or drops)
            )
        return output.transpose(1, 2).flatten(2), weights

    def _by_sample(self, x: Tensor) -> Tensor:
        """Lay tokens out as (N, L, C)."""
        if x.dim() == 2:
            return x[None]
        return x if self.batch_first else x.transpose(0, 1)

    def _merged_mask(
        self, attn_mask: Tensor | None, padding: Tensor | None, q: Tensor
    ) -> Tensor | None:
        """Add the masks up.

        Args:
            attn_mask: (L, S) or (N * heads, L, S), added to scores; where it
                is bool and True, nothing is attended to.
            padding: (N, S) or (S,), the same for keys.
            q: Queries (N, L, C).

        Returns:
            A sum that is of the shape (N, heads, L, S) when it is broadcast.
        """
        names = ('attn_mask', attn_mask), ('key_padding_mask', padding)
        attn_mask, padding = (
            F._canonical_mask(
                mask=mask,
                mask_name=name,
                other_type=None,
                other_name='',
                target_type=q.dtype,
                check_other=False,
            )
            for name, mask in names
        )
        if attn_mask is not None and attn_mask.dim() == 3:
            attn_mask = attn_mask.unflatten(0, (-1, self.num_heads))
        if padding is None:
            return attn_mask
        padding = padding.reshape(len(q), 1, 1, -1)
        return padding if attn_mask is None else attn_mask + padding

    def _attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        need_weights: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Compute what torch does behind the projections.

        Returns:
            Output (N, heads, L, C), and the weights (N, heads, L, S) if they
            are needed.
        """
        if not need_weights:
            dropout = self.dropout if self.training else 0.0
            output = F.scaled_dot_product_attention(q, k, v, mask, dropout)
            return output, None
        scores = q * math.sqrt(1 / q.shape[-1]) @ k.mT
        if mask is not None:
            scores = scores + mask
        weights = F.dropout(scores.softmax(-1), self.dropout, self.training)
        return weights @ v, weights


def attention_refusal(attention: nn.MultiheadAttention) -> str | None:
    """Say why an attention stays as it is, None if it can be converted."""
    kind, last = type(attention), attention.out_proj
    if kind is not nn.MultiheadAttention:
        return f'{kind.__name__} may attend otherwise than torch does'
    if 'forward' in attention.__dict__ or 'forward' in last.__dict__:
        return 'its forward is replaced on the instance'
    if type(last) is not NonDynamicallyQuantizableLinear:
        return f'its out_proj is replaced by {type(last).__name__}'
    if attention.bias_k is not None or attention.add_zero_attn:
        return 'it adds keys of its own (add_bias_kv or add_zero_attn)'
    return None


def attend(
    qkv: Tensor,
    num_heads: int,
    scale: float,
    bias: Tensor | None,
    mask: Tensor | None,
    name: str = '',
) -> Tensor:
    """Compute the attention of each window.

    Args:
        qkv: Queries, keys and values (W, N, 3 * C) of N tokens in W windows.
        num_heads: Number of heads H.
        scale: Factor of the products of queries and keys.
        bias: Added to them, (H, N, N), the same in all windows.
        mask: Added to them, (w, N, N), of every w windows in their order.
        name: Name of the module, for plans.

    Returns:
        (W, N, C), the heads side by side.
    """
    if not isinstance(qkv, Tensor):  # it is traced
        arguments = qkv, num_heads, scale, bias, mask
        return handle_torch_function(attend, (qkv,), *arguments, name=name)
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


def attend_all(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    num_heads: int,
    mask: Tensor | None = None,
    scale: float | None = None,
    name: str = '',
) -> Tensor:
    """Compute the attention over all tokens of each sample.

    Args:
        query: Queries (N, L, H * C), heads side by side.
        key: Keys (N, S, H * C).
        value: Values, the same.
        num_heads: Number of heads H.
        mask: See :class:`AttentionInputs`.
        scale: The same.
        name: Name of the module, for plans.

    Returns:
        (N, L, H * C).
    """
    if not isinstance(query, Tensor):  # it is traced
        arguments = query, key, value, num_heads, mask, scale
        return handle_torch_function(
            attend_all, (query,), *arguments, name=name
        )
    tokens = query, key, value
    inputs = AttentionInputs.of_tokens(tokens, num_heads, mask, scale)
    return inputs.attend().transpose(1, 2).flatten(2)


def window_macs(qkv: Tensor) -> int:
    """Count the MACs of both products in windows, see :func:`attend`."""
    windows, tokens, channels = qkv.shape
    return windows * tokens**2 * 2 * (channels // 3)


def masks_of(mask: Tensor | None, windows: Tensor) -> Tensor | None:
    """Take the masks of some windows, see :func:`attend`.

    Args:
        mask: (w, N, N), or None.
        windows: Numbers of windows, int64.
    """
    return None if mask is None else mask[windows % len(mask)]


def attend_again(
    kept: Tensor | None, changed: Tensor, qkv: Tensor, *options: Any
) -> Tensor:
    """Compute attention again in the windows of which a token changed.

    Args:
        kept: Result of the frame before, or None; it is used up.
        changed: Bool (W,), windows with a change.
        qkv: See :func:`attend`.
        *options: What else that takes, the masks last.
    """
    if kept is None or bool(changed.all()):
        return attend(qkv, *options)
    windows = changed.nonzero().flatten()
    if len(windows):
        *others, masks = options
        masks = masks_of(masks, windows)
        kept = writable(kept)
        kept[windows] = attend(qkv[windows], *others, masks)
    return kept


class SkipAttentionMixin(Converted):
    """Makes a module ``proj(attention(qkv(x)))`` skip what did not change.

    It remembers nothing outside of streams, and is the host's module then.
    """

    dense_class: type

    def revert(self) -> None:
        """Give the host's module back, in place."""
        self.__class__ = self.dense_class

    def __reduce_ex__(self, protocol: int) -> tuple:
        return _make, (self.dense_class,), self.__dict__


class SkipWindowsMixin(SkipAttentionMixin):
    """Makes attention within windows skip those without a change."""

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


class SkipSequenceMixin(SkipAttentionMixin):
    """Makes attention over all tokens compute again what changed."""

    def forward(self, x: Tensor) -> Tensor:
        """Run in a stream or clip, else as the host's.

        Args:
            x: Tokens (N, L, C) of N samples.
        """
        binding = self.qkv._binding
        if binding is None or self.training:
            return super().forward(x)
        tokens = self.project(x).chunk(3, -1)
        heads, scale = self.num_heads, self.scale
        if not isinstance(x, Tensor):  # it is traced
            name = binding.name_around(self.qkv)
            result = attend_all(*tokens, heads, scale=scale, name=name)
        else:
            inputs = AttentionInputs.of_tokens(tokens, heads, scale=scale)
            layers = (self.qkv,) * 3
            result, _ = binding.reuse(layers, inputs, results_of, True)
            result = result.transpose(1, 2).flatten(2)
        return self.proj(result)

    def project(self, x: Tensor) -> Tensor:
        """Make queries, keys and values (N, L, 3 * C), side by side."""
        if not isinstance(self.qkv, SkipLinearApart):
            return self.qkv(x)
        bias = None
        if hasattr(self, 'q_bias'):
            bias = self.q_bias, torch.zeros_like(self.v_bias), self.v_bias
            bias = torch.cat(bias)
        return self.qkv.multiply(x, bias)


@cache
def skip_class(kind: type) -> type:
    """Make the class that attention of a kind gets in a conversion."""
    is_windowed = _path(kind) in WINDOW_CLASSES
    mixin = SkipWindowsMixin if is_windowed else SkipSequenceMixin
    members = {'dense_class': kind, '__module__': __name__}
    return type(f'Skip{kind.__name__}', (mixin, kind), members)


def find_attention(model: nn.Module) -> dict[nn.Module, nn.Module]:
    """Find attention that can skip, by its ``qkv`` layer."""
    return {
        module.qkv: module
        for module in model.modules()
        if _path(type(module)) in WINDOW_CLASSES | SEQUENCE_CLASSES
        and type(module.qkv) is nn.Linear
    }


def find_unread_weights(model: nn.Module) -> set[nn.Module]:
    """Find attention of torch whose weights nobody looks at.

    Hosts ask for them, as it is torch's default, and take the first of what
    is returned, ``self.attn(...)[0]``.
    """
    unread, read = set(), set()
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.MultiheadAttention):
                drops = _takes_first(type(module), name)
                (unread if drops else read).add(child)
    return unread - read


@cache
def _takes_first(kind: type, name: str) -> bool:
    """Tell if all that a class does with a child is ``self.name(...)[0]``."""
    calls, firsts = 0, 0
    for node in _nodes_of(kind):
        if _is_child(node, name):
            calls += 1
        elif isinstance(node, ast.Subscript):
            index, call = node.slice, node.value
            firsts += (
                isinstance(index, ast.Constant)
                and index.value == 0
                and isinstance(call, ast.Call)
                and _is_child(call.func, name)
            )
    return 0 < calls == firsts


def _is_child(node: ast.AST, name: str) -> bool:
    """Tell if an expression is ``self.name``, which is read."""
    return (
        isinstance(node, ast.Attribute)
        and node.attr == name
        and isinstance(node.ctx, ast.Load)
        and isinstance(node.value, ast.Name)
        and node.value.id == 'self'
    )


@cache
def multiplies_tokens(kind: type) -> bool:
    """Tell if modules of a class multiply tokens with tokens themselves.

    That is told by its source: a method has both a product and a softmax.
    """
    own = kind.__mro__
    if not _OTHER_PRODUCTS.isdisjoint(map(_path, own)):
        return True
    return any(
        _multiplies(method) and _normalises(method)
        for method in _nodes_of(kind)
        if isinstance(method, ast.FunctionDef)
    )


def _multiplies(method: ast.FunctionDef) -> bool:
    return any(
        (isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult))
        or (isinstance(node, ast.Attribute) and node.attr in _PRODUCTS)
        for node in ast.walk(method)
    )


def _normalises(method: ast.FunctionDef) -> bool:
    names = {'scaled_dot_product_attention', 'softmax', 'Softmax'}
    return any(
        isinstance(node, ast.Attribute) and node.attr in names
        for node in ast.walk(method)
    )


def _nodes_of(kind: type) -> Iterator[ast.AST]:
    """Parse the methods of a class and of those below torch's module."""
    own = kind.__mro__
    for base in own[: own.index(nn.Module)] if nn.Module in own else ():
        if base.__module__.startswith(('torch.', 'mmengine.')):
            continue
        try:
            source = textwrap.dedent(inspect.getsource(base))
        except (OSError, TypeError):  # made at run time
            continue
        yield from ast.walk(ast.parse(source))


def _path(kind: type) -> tuple[str, str]:
    return kind.__module__, kind.__name__


def _make(kind: type) -> Any:
    """Make an empty module, which is unpickled."""
    made = skip_class(kind)
    return made.__new__(made)

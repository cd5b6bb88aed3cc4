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

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.overrides import handle_torch_function, has_torch_function_unary

from mmskip.core import Converted
from mmskip.reading import InputError

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
#: Most blocks of keys: each takes the memory of the result.
MOST_BLOCKS = 8
#: Fewest keys of a block: products of fewer are no faster, and the blocks of
#: a short sequence would take more memory than its scores.
SHORTEST_BLOCK = 128
#: Torch's fused attention that tells the sums of exponentials, too.
_FUSED = getattr(
    torch.ops.aten, '_scaled_dot_product_flash_attention_for_cpu', None
)


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
        is_traced = has_torch_function_unary(tokens[0])
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


class AttentionInputs(NamedTuple):
    """Holds what an attention is computed from.

    Symbols: N samples, H heads, L queries, S keys, C channels of a head.

    Attributes:
        query: (N, H, L, C).
        key: (N, H, S, C).
        value: The same.
        mask: Added to scores, (L, S), (N, H, L, S), or what is broadcast to
            that.
        scale: Factor of the scores; None for that of torch.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None = None
    scale: float | None = None

    @classmethod
    def of_tokens(
        cls,
        tokens: tuple[Tensor, Tensor, Tensor],
        num_heads: int,
        mask: Tensor | None = None,
        scale: float | None = None,
    ) -> 'AttentionInputs':
        """Take heads apart, of queries, keys and values (N, ..., H * C)."""
        heads = (
            x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in tokens
        )
        return cls(*heads, mask, scale)

    @property
    def products(self) -> int:
        """MACs of both products with all keys, for all queries."""
        return self.macs(len(self.query) * self.query.shape[2])

    def macs(self, queries: int) -> int:
        """Count the MACs of both products with all keys.

        Args:
            queries: Number of queries, in all samples together.
        """
        heads, keys, channels = self.value.shape[1:]
        return queries * heads * keys * (self.query.shape[-1] + channels)

    def settings(self) -> tuple:
        """Give all but the tokens and the mask."""
        query, key, *_ = self
        return query.shape, key.shape, query.dtype, query.device, self.scale

    def of_samples(self, some: Tensor | slice) -> 'AttentionInputs':
        """Take some samples."""
        *tokens, mask, scale = self
        if mask is not None and mask.dim() == 4 and len(mask) > 1:
            mask = mask[some]
        return AttentionInputs(*(x[some] for x in tokens), mask, scale)

    def of_queries(self, some: Tensor) -> 'AttentionInputs':
        """Take some queries."""
        mask = self.mask
        if mask is not None and mask.shape[-2] > 1:
            mask = mask[..., some, :]
        return self._replace(query=self.query[..., some, :], mask=mask)

    def of_keys(self, some: Tensor) -> 'AttentionInputs':
        """Take some keys, and their values."""
        mask = self.mask
        if mask is not None and mask.shape[-1] > 1:
            mask = mask[..., some]
        key, value = (x[..., some, :] for x in (self.key, self.value))
        return self._replace(key=key, value=value, mask=mask)

    def attend(self, dropout: float = 0.0) -> Tensor:
        """Compute the attention, (N, H, L, C), as torch does."""
        query, key, value, mask, scale = self
        return F.scaled_dot_product_attention(
            query, key, value, mask, dropout, scale=scale
        )

    def attend_apart(self) -> tuple[Tensor, Tensor]:
        """Compute the attention to keys that are not all there are.

        Returns:
            Results (N, H, L, C) as if there were no other keys, and the
            logarithms (N, H, L) of the sums of the exponentials of scores:
            minus infinity where the mask leaves no key, results are 0 there.
        """
        query, key, value, mask, scale = self
        if mask is not None:
            mask = mask.to(query.dtype)
            mask = mask.expand(
                len(query), query.shape[1], query.shape[2], key.shape[2]
            )
        if _FUSED is not None and query.is_cpu:
            result, total = _FUSED(
                query, key, value, attn_mask=mask, scale=scale
            )
            if mask is not None:
                closed = (mask == -math.inf).all(-1)
                total = total.masked_fill(closed, -math.inf)
            return result, total
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        scores = query * scale @ key.mT
        if mask is not None:
            scores = scores + mask
        total = scores.logsumexp(-1)
        level = total.masked_fill(total == -math.inf, 0.0)
        return (scores - level[..., None]).exp() @ value, total


def merge(parts: Tensor, totals: Tensor) -> Tensor:
    """Put the attention to all keys together from that to blocks of them.

    It is a mean of the parts, each of the weight of its exponentials; this
    is how fused attention goes on from one block of keys to the next
    (FlashAttention, arXiv:2205.14135, Sec. 3.1).

    Args:
        parts: Attention to each of B blocks, (B, H, L, C).
        totals: Logarithms of the sums of exponentials, (B, H, L).

    Returns:
        (H, L, C); 0 where a mask leaves no key at all.
    """
    top = totals.amax(0)
    weights = (totals - top.masked_fill(top == -math.inf, 0.0)).exp_()
    least = torch.finfo(weights.dtype).tiny
    weights = (weights / weights.sum(0).clamp_min_(least))[..., None]
    result = parts[0] * weights[0]
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        result.addcmul_(part.to(result.dtype), weight)
    return result.to(parts.dtype)


class KeyBlocks:
    """Keeps the attention of one sequence to each block of its keys.

    If a key or its value changed, its block is computed again for all
    queries, and the others for the queries that changed. What comes out is
    put together from results that are whole: nothing is added to a result
    of a frame before, so that none drifts. Scores are not kept.

    An attention does not depend on the order of keys. Those of the blocks
    that are computed again are therefore dealt to these blocks anew, the
    ones that changed last first: what moves comes together, and what stands
    still is in blocks that stay.

    Args:
        inputs: Inputs of one sample, with S keys.

    Attributes:
        blocks: Numbers of the keys in each of B blocks.
        result: The attention, (1, H, L, C).
    """

    def __init__(self, inputs: AttentionInputs) -> None:
        query, value = inputs.query[0], inputs.value[0]
        heads, length, _ = query.shape
        keys, channels = value.shape[1:]
        numbers = torch.arange(keys, device=query.device)
        self.blocks = list(numbers.tensor_split(num_blocks(keys)))
        self._idle = torch.zeros_like(numbers)
        # Heads of a token side by side, as layers behind read them.
        shape = len(self.blocks), length, heads, channels
        self._parts = query.new_empty(shape).transpose(1, 2)
        exact = query.dtype == torch.float64
        self._totals = query.new_empty(
            self._parts.shape[:-1],
            dtype=query.dtype if exact else torch.float32,
        )
        self.result = query.new_empty((1, *shape[1:])).transpose(1, 2)

    def update(
        self, inputs: AttentionInputs, queries: Tensor, keys: Tensor
    ) -> int:
        """Compute what changed.

        Args:
            inputs: Inputs of the sample, of the sizes that they had.
            queries: Bool (L,), queries that changed.
            keys: Bool (S,), keys that changed, or their values.

        Returns:
            MACs of the products that were computed.
        """
        stale = self._deal(keys)
        rows = queries.nonzero().flatten()
        some, macs = inputs.of_queries(rows), 0
        for number, block in enumerate(self.blocks):
            if number in stale:
                inner, place = inputs.of_keys(block), slice(None)
            elif len(rows):
                inner, place = some.of_keys(block), rows
            else:
                continue
            part, total = inner.attend_apart()
            self._parts[number][:, place] = part[0]
            self._totals[number][:, place] = total[0]
            macs += inner.products
        if stale:
            self.result[0] = merge(self._parts, self._totals)
        elif len(rows):
            parts, totals = self._parts[:, :, rows], self._totals[..., rows]
            self.result[0][:, rows] = merge(parts, totals)
        return macs

    def _deal(self, keys: Tensor) -> set[int]:
        """Deal keys to the blocks that changed; returns their numbers."""
        self._idle += 1
        self._idle[keys] = 0
        found = torch.stack([keys[block].any() for block in self.blocks])
        stale = found.nonzero().flatten().tolist()
        if stale:
            sizes = [len(self.blocks[number]) for number in stale]
            dealt = torch.cat([self.blocks[number] for number in stale])
            order = self._idle[dealt].argsort(stable=True)
            for number, block in zip(
                stale, dealt[order].split(sizes), strict=True
            ):
                self.blocks[number] = block.sort().values
        return {*stale}

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        kept = self._parts, self._totals, self._idle, self.result
        return sum(x.nbytes for x in (*kept, *self.blocks))


def num_blocks(keys: int) -> int:
    """Tell in how many blocks a number of keys is kept."""
    return max(1, min(MOST_BLOCKS, keys // SHORTEST_BLOCK))


class KeptAttention:
    """Keeps what an attention returned in the frame before.

    With many keys, of which only results are asked for, those are kept in
    blocks. Else one sequence is computed for the queries that changed, or
    for all if a key did; and of several sequences those with a change.

    Args:
        inputs: Inputs of the first frame.
        in_blocks: True if results alone are asked for.

    Attributes:
        output: (N, H, L, C).
        weights: (N, H, L, S), if they were asked for.
        macs: MACs of the products that were computed in the last frame.
    """

    def __init__(self, inputs: AttentionInputs, in_blocks: bool) -> None:
        self.output: Tensor | None = None
        self.weights: Tensor | None = None
        self.macs = 0
        self._known = *inputs.settings(), in_blocks
        self._mask = inputs.mask
        self._blocks: list[KeyBlocks] = []
        if in_blocks and num_blocks(inputs.key.shape[2]) > 1:
            self._blocks = [
                KeyBlocks(inputs.of_samples(slice(n, n + 1)))
                for n in range(len(inputs.query))
            ]

    @classmethod
    def of(
        cls,
        kept: 'KeptAttention | None',
        inputs: AttentionInputs,
        changes: tuple[Tensor, Tensor],
        attend: 'Attend',
        in_blocks: bool,
    ) -> 'KeptAttention':
        """Compute an attention again where something changed.

        Args:
            kept: That of the frame before, or None; it is used up.
            inputs: Inputs in this frame.
            changes: Bool (N, L) of the queries that changed, and (N, S) of
                the keys of which, or of whose values, that is true.
            attend: Function of inputs for results (N, H, L, C) and, if they
                are asked for, weights.
            in_blocks: True if it gives results alone, as torch's function
                does.
        """
        if kept is None or not kept.fits(inputs, in_blocks):
            kept = cls(inputs, in_blocks)
            changes = tuple(map(torch.ones_like, changes))
        kept._update(inputs, *changes, attend)
        return kept

    def fits(self, inputs: AttentionInputs, in_blocks: bool) -> bool:
        """Tell if all but the tokens is what it was."""
        if (*inputs.settings(), in_blocks) != self._known:
            return False
        kept, mask = self._mask, inputs.mask
        if kept is None or mask is None or kept is mask:
            return kept is mask
        return torch.equal(kept, mask)

    def _update(
        self,
        inputs: AttentionInputs,
        queries: Tensor,
        keys: Tensor,
        attend: 'Attend',
    ) -> None:
        samples = len(queries)
        if self._blocks:
            self.macs = sum(
                blocks.update(
                    inputs.of_samples(slice(n, n + 1)), queries[n], keys[n]
                )
                for n, blocks in enumerate(self._blocks)
            )
            results = [blocks.result for blocks in self._blocks]
            self.output = results[0] if samples == 1 else torch.cat(results)
            return
        changed, chosen = queries[0], inputs.of_queries
        if samples > 1:
            changed = torch.cat([queries, keys], 1).any(1)
            chosen = inputs.of_samples
        is_whole = changed.all() if samples > 1 else keys.any()
        self.macs = 0
        if self.output is None or bool(is_whole):
            self.macs = inputs.products
            self.output, self.weights = attend(inputs)
        elif bool(changed.any()):
            some = changed.nonzero().flatten()
            inner = chosen(some)
            self.macs = inner.products
            place = some if samples > 1 else (..., some, slice(None))
            kept = self.output, self.weights
            for old, new in zip(kept, attend(inner), strict=True):
                if old is not None:
                    old[place] = new

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        if not self._blocks:
            kept = self.output, self.weights
            return sum(x.nbytes for x in kept if x is not None)
        joined = 0 if len(self._blocks) == 1 else self.output.nbytes
        return joined + sum(blocks.nbytes for blocks in self._blocks)


#: Computes results and weights.
Attend = Callable[[AttentionInputs], tuple[Tensor, Tensor | None]]


def results_of(inputs: AttentionInputs) -> tuple[Tensor, None]:
    """Compute results alone, see :class:`KeptAttention`."""
    return inputs.attend(), None


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
    if has_torch_function_unary(qkv):  # it is traced
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
    if has_torch_function_unary(query):  # it is traced
        arguments = query, key, value, num_heads, mask, scale, name
        return handle_torch_function(attend_all, (query,), *arguments)
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
        if has_torch_function_unary(x):  # it is traced
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


def _path(kind: type) -> tuple[str, str]:
    return kind.__module__, kind.__name__


def _make(kind: type) -> Any:
    """Make an empty module, which is unpickled."""
    made = skip_class(kind)
    return made.__new__(made)

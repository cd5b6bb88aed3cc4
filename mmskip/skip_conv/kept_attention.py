"""The attention of the frame before, kept so that what changed is computed.

Symbols: N samples, H heads, L queries, S keys, C channels of a head, B blocks
of keys. All of it is ours; the paper has no transformers.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

#: Most blocks of keys: each takes the memory of the result.
MOST_BLOCKS = 8
#: Fewest keys of a block: products of fewer are no faster, and the blocks of
#: a short sequence would take more memory than its scores.
SHORTEST_BLOCK = 128
#: Torch's fused attention that tells the sums of exponentials, too.
_FUSED = getattr(
    torch.ops.aten, '_scaled_dot_product_flash_attention_for_cpu', None
)


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
        """MACs of both products, of all queries with all keys."""
        samples, heads, length, channels = self.query.shape
        keys, results = self.value.shape[2:]
        return samples * heads * length * keys * (channels + results)

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

    Where that does not help, the attention is computed whole, and there are
    no blocks: if a key changed in each of them, and either most keys did, or
    most of those that did had not when keys changed before.

    Args:
        inputs: Inputs of one sample, with S keys.

    Attributes:
        blocks: Numbers of the keys in each of B blocks; empty if there are
            none.
        result: The attention, (1, H, L, C).
    """

    def __init__(self, inputs: AttentionInputs) -> None:
        query, value = inputs.query, inputs.value
        self.blocks: list[Tensor] = []
        self._parts = self._totals = query[:0]
        # Heads of a token side by side, as layers behind read them.
        shape = 1, query.shape[2], query.shape[1], value.shape[3]
        self.result = _empty(shape, query).transpose(1, 2)
        #: Frames with other keys since each of them changed.
        self._idle = _empty(value.shape[2:3], query, torch.int64).zero_()

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
        changed, rows = int(keys.sum()), queries.nonzero().flatten()
        if not changed:
            return self._compute(inputs, rows, set())
        again = int((keys & (self._idle == 0)).sum())
        self._idle += 1
        self._idle[keys] = 0
        stale = self._find_stale(keys)
        if len(stale) == len(self.blocks):
            if 2 * changed > len(keys) or 2 * again < changed:
                self.blocks = []
                self._parts = self._totals = self.result[:0]
                self.result[:] = inputs.attend()
                return inputs.products
            if not self.blocks:
                self._begin()
            stale = set(range(len(self.blocks)))
        self._deal(sorted(stale))
        return self._compute(inputs, rows, stale)

    def _find_stale(self, keys: Tensor) -> set[int]:
        """Number the blocks in which a key changed."""
        found = [keys[block].any() for block in self.blocks]
        return {n for n, any_ in enumerate(found) if bool(any_)}

    def _begin(self) -> None:
        """Make room for blocks."""
        numbers = torch.arange(len(self._idle), device=self._idle.device)
        self.blocks = list(numbers.tensor_split(num_blocks(len(numbers))))
        _, heads, length, channels = self.result.shape
        shape = len(self.blocks), length, heads, channels
        self._parts = _empty(shape, self.result).transpose(1, 2)
        exact = self.result.dtype == torch.float64
        dtype = torch.float64 if exact else torch.float32
        self._totals = _empty(self._parts.shape[:-1], self.result, dtype)

    def _deal(self, stale: list[int]) -> None:
        """Deal the keys of some blocks to these blocks anew."""
        sizes = [len(self.blocks[number]) for number in stale]
        dealt = torch.cat([self.blocks[number] for number in stale])
        order = self._idle[dealt].argsort(stable=True)
        blocks = dealt[order].split(sizes)
        for number, block in zip(stale, blocks, strict=True):
            self.blocks[number] = block.sort().values

    def _compute(
        self, inputs: AttentionInputs, rows: Tensor, stale: set[int]
    ) -> int:
        """Compute blocks for all queries, and others for some of them.

        Returns:
            MACs of the products.
        """
        some, macs = inputs.of_queries(rows), 0
        if not self.blocks and len(rows):
            self.result[:, :, rows] = some.attend()
            return some.products
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
        elif len(rows) and self.blocks:
            parts, totals = self._parts[:, :, rows], self._totals[..., rows]
            self.result[0][:, rows] = merge(parts, totals)
        return macs

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        kept = self._parts, self._totals, self._idle, self.result
        return sum(x.nbytes for x in (*kept, *self.blocks))


def _empty(
    shape: Sequence[int], like: Tensor, dtype: torch.dtype | None = None
) -> Tensor:
    """Make a tensor that may be written into in all modes."""
    with torch.inference_mode(False):
        return like.new_empty(tuple(shape), dtype=dtype)


def writable(tensor: Tensor) -> Tensor:
    """Copy a tensor of inference mode, into which others may not write."""
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        return tensor.clone()
    return tensor


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
            self.output = writable(self.output)
            output, weights = attend(inner)
            self.output[place] = output
            if weights is not None:
                self.weights = writable(self.weights)
                self.weights[place] = weights

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

"""Attention, whose projections skip, and of which windows skip as a whole.

torch's ``MultiheadAttention`` keeps the weights of its projections to itself
and never calls a layer; other attention modules have a layer and multiply by
its weight (``F.linear(x, self.qkv.weight, bias)``). Both become layers as
those of :mod:`.linear`, which read the weights where they are: parameters
and their names stay.

Attention within windows, as Swin transformers of mmdet, mmpose and mmaction2
have it, is computed where a token changed. A window's result depends on its
own tokens only: where the layer in front (``qkv``) has computed none of them
anew, the result is what it was, without a gate of its own. All of it is
ours; the paper has no transformers.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.overrides import handle_torch_function, has_torch_function_unary

from mmskip.core import Converted
from mmskip.core.counting import Reading, read_apart, route_products
from mmskip.native import address_of, is_exact_inference
from mmskip.reading import InputError

from .linear import SkipLinearMixin

#: The layers that an attention becomes, in the order of its weights.
PROJECTIONS = ('query', 'key', 'value')
LAYERS = (*PROJECTIONS, 'out_proj')
#: Classes of the hosts that are ``proj(attention(qkv(x)))`` over windows.
WINDOW_CLASSES = {
    ('mmaction.models.backbones.swin', 'WindowAttention3D'),
    ('mmdet.models.backbones.swin', 'WindowMSA'),
    ('mmpose.models.backbones.hrformer', 'WindowMSA'),
    ('mmpose.models.backbones.swin', 'WindowMSA'),
}


class Projection(nn.Module):
    """Multiplies by a part of the weights that an attention keeps.

    Args:
        attention: The attention, which is in no list of this module's
            children.
        name: ``query``, ``key`` or ``value``.
    """

    def __init__(self, attention: nn.MultiheadAttention, name: str) -> None:
        super().__init__()
        self.__dict__['keeper'] = attention
        self.out_features = attention.embed_dim
        start = PROJECTIONS.index(name) * self.out_features
        self.rows = slice(start, start + self.out_features)
        self.source = 'in_proj_weight'
        if attention.in_proj_weight is None:
            self.source = f'{name[0]}_proj_weight'
        self.in_features = getattr(attention, self.source).shape[1]
        self.train(attention.training)
        self._views: dict[str, tuple[Tensor, int, Tensor]] = {}

    @property
    def weight(self) -> Tensor:
        """Weight (out_features, in_features)."""
        whole = self.source == 'in_proj_weight'
        return self._view(self.source, self.rows if whole else slice(None))

    @property
    def bias(self) -> Tensor | None:
        """Bias (out_features,), None if the attention has none."""
        return self._view('in_proj_bias', self.rows)

    def _view(self, name: str, rows: slice) -> Tensor | None:
        """Take rows of a parameter: the same object as long as it stays.

        A view that may get a gradient is made anew.
        """
        source = getattr(self.keeper, name)
        if source is None:
            return None
        if torch.is_grad_enabled() and source.requires_grad:
            return source[rows]
        kept = self._views.get(name)
        address = address_of(source)
        if kept is None or kept[0] is not source or kept[1] != address:
            kept = source, address, source.detach()[rows]
            self._views[name] = kept
        return kept[2]

    def forward(self, input: Tensor) -> Tensor:
        """Multiply tokens (..., in_features)."""
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f'{self.in_features}, {self.out_features}'


class SkipProjection(SkipLinearMixin, Projection):
    """Skips the computation of unchanged tokens in a projection."""

    dense_class = Projection

    def held_weights(self) -> tuple[Tensor | None, Tensor | None]:
        """Give weight and bias, which are the same objects as last time."""
        return self.weight, self.bias

    def __getstate__(self) -> dict:
        return {**super().__getstate__(), '_views': {}}


# Each names torch's class as a base of its own, see SKIP_CLASSES.
class SkipOutProjection(
    SkipLinearMixin, NonDynamicallyQuantizableLinear, nn.Linear
):
    """Skips in the last layer of an attention."""

    dense_class = NonDynamicallyQuantizableLinear


class SkipMultiheadAttention(Converted, nn.MultiheadAttention):
    """Projects, in a stream or clip, only tokens that changed.

    The attention of a query is computed again where the query, or any key or
    value changed: then all of its weights differ, and scores that stay would
    take more memory than they save. In a batch of several sequences it is
    computed again for those with a change. Outside of ``stream`` and ``clip``
    it is torch's, bit for bit.
    """

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
        q, k, v = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer, x in zip(layers, tokens, strict=True)
        )
        mask = self._merged_mask(attn_mask, key_padding_mask, q)

        inputs = q, k, v, mask

        def attend(some: Tensor | None) -> tuple[Tensor, Tensor | None]:
            chosen = inputs if some is None else _choose(some, *inputs)
            return self._attend(*chosen, need_weights)

        if has_torch_function_unary(q):  # it is traced
            output, weights = attend(None)
        else:
            known = q.shape, k.shape, need_weights, mask
            output, weights = self.query._binding.reuse(layers, known, attend)
        output = self.out_proj(output.transpose(1, 2).flatten(2))
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if query.dim() == 2:
            return output[0], None if weights is None else weights[0]
        if not self.batch_first:
            output = output.transpose(0, 1).contiguous()
        return output, weights

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
            q: Queries (N, heads, L, C).

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


class KeptAttention(NamedTuple):
    """Keeps what an attention returned in the frame before.

    Attributes:
        output: (N, heads, L, C).
        weights: (N, heads, L, S), if they were asked for.
        known: Sizes of queries and keys, whether weights were asked for, and
            the mask.
    """

    output: Tensor
    weights: Tensor | None
    known: tuple[torch.Size, torch.Size, bool, Tensor | None]

    @classmethod
    def of(
        cls,
        kept: 'KeptAttention | None',
        masks: Sequence[Tensor],
        known: tuple,
        attend: Callable[[Tensor | None], tuple[Tensor, Tensor | None]],
    ) -> 'KeptAttention':
        """Compute an attention again where something changed.

        Args:
            kept: That of the frame before, or None; it is used up.
            masks: Which queries, keys and values were computed anew.
            known: As ``known`` above.
            attend: Function that computes it for what :func:`_choose` takes,
                or, of None, for all.
        """
        samples = known[0][0]
        queries, *others = (mask.reshape(samples, -1) for mask in masks)
        if samples > 1:
            changed = torch.cat([queries, *others], 1).any(1)
            is_whole = bool(changed.all())
        else:
            changed = queries[0]
            is_whole = any(bool(other.any()) for other in others)
        if kept is None or not kept.fits(known) or is_whole:
            return cls(*attend(None), known)
        if changed.any():
            some = changed.nonzero().flatten()
            kept.replace(some, attend(some))
        return kept

    def fits(self, known: tuple) -> bool:
        """Tell if all but the tokens is what it was."""
        *rest, mask = known
        *others, kept = self.known
        if mask is None or kept is None or mask is kept:
            return rest == others and mask is kept
        return rest == others and torch.equal(mask, kept)

    def replace(self, some: Tensor, fresh: tuple) -> None:
        """Write results, see :func:`_choose`, in place."""
        place = some if len(self.output) > 1 else (..., some, slice(None))
        for kept, new in zip(self[:2], fresh, strict=True):
            if kept is not None:
                kept[place] = new

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        weights = 0 if self.weights is None else self.weights.nbytes
        return self.output.nbytes + weights


def _choose(
    some: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Take what some results of an attention are computed from.

    Args:
        some: Numbers of samples; of one sample, numbers of its queries.
        q: Queries (N, heads, L, C).
        k: Keys (N, heads, S, C).
        v: Values, the same.
        mask: (L, S), (N, heads, L, S), or what is broadcast to that.
    """
    if len(q) > 1:
        if mask is not None and mask.dim() == 4 and len(mask) > 1:
            mask = mask[some]
        return q[some], k[some], v[some], mask
    if mask is not None and mask.shape[-2] > 1:
        mask = mask[..., some, :]
    return q[..., some, :], k, v, mask


class SkipLinearApart(SkipLinearMixin, nn.Linear):
    """Skips in a layer by whose weight the forward around it multiplies.

    The bias is that of the last product; its parameters are in the module
    that multiplies, ``keeper``.
    """

    dense_class = nn.Linear

    @property
    def bias(self) -> Tensor | None:
        """Bias (out_features,) of the last product, or the layer's own."""
        return self.__dict__.get('_joint', self._parameters['bias'])

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Compute ``F.linear(x, self.weight, bias)`` in a stream or clip."""
        kept = self.bias
        # The same object for the same values is what prepared calls ask for.
        if not (
            is_exact_inference()
            and isinstance(kept, Tensor)
            and isinstance(bias, Tensor)
            and kept.device == bias.device
            and kept.dtype == bias.dtype
            and torch.equal(kept, bias)
        ):
            self.__dict__['_joint'] = bias
        return self(x)

    def held_weights(self) -> tuple[Tensor | None, Tensor | None]:
        """Give the weight, and the bias that :meth:`multiply` keeps."""
        return self._parameters.get('weight'), self.bias

    def revert(self) -> None:
        """Give a plain layer back, in place."""
        self.__dict__.pop('_joint', None)
        super().revert()

    def __getstate__(self) -> dict:
        state = super().__getstate__()
        state.pop('_joint', None)
        return state


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


def weights_read_apart(
    model: nn.Module,
) -> tuple[dict[nn.Module, nn.Module], dict[nn.Module, str]]:
    """Find layers whose weights others read, past the layer.

    Args:
        model: Any model.

    Returns:
        For each layer that can be a :class:`SkipLinearApart`, the module
        that multiplies; for the others, the reason why they cannot be
        converted.
    """
    readers, reasons = {}, {}
    for layer, reader, multiplies in read_apart(model):
        if multiplies and type(layer) is nn.Linear and layer not in readers:
            readers[layer] = reader
        else:
            kind = type(reader).__name__
            reasons[layer] = f'{kind} reads its weight, and never calls it'
    return readers, reasons


def route_to_layers(layers: Iterable[nn.Module]) -> list[Any]:
    """Let layers compute where others multiply by their weights.

    Args:
        layers: Converted layers of a model.

    Returns:
        Handles with ``remove()``.
    """
    readings = (
        Reading(layer, layer.keeper, True)
        for layer in layers
        if isinstance(layer, SkipLinearApart)
    )
    return route_products(readings, SkipLinearApart.multiply)


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

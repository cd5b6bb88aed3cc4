"""Linear layers and transposed convolutions that skip what did not change.

Both are convolutions whose weights lie in another order, so gates, memory,
MACs and kernels are those of :mod:`mmskip.skip_conv.layer`. A linear layer
over tokens is a 1x1 convolution over positions (ours: the paper of
Skip-Convolutions has no transformers). A position is what stays in its place
from frame to frame at a call site: the order of tokens, windows that are cut
out, rolled or merged, make no difference.
"""

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from mmskip.core.counting import Reading, read_apart, route_products
from mmskip.native import (
    ConvGeometry,
    activate_,
    address_of,
    is_exact_inference,
)
from mmskip.native.geometry import swap_channels
from mmskip.reading import InputError
from mmskip.registry import MODELS

from .gates import Gate
from .layer import SkipConvMixin
from .native_layer import NativeCall
from .reference import SkipMemory

#: The layers that an attention becomes, in the order of its weights.
PROJECTIONS = ('query', 'key', 'value')
LAYERS = (*PROJECTIONS, 'out_proj')
#: Rows of tokens are this long at most, so that threads share them.
LONGEST_ROW = 64
#: Shortest row that a long sequence is folded to.
SHORTEST_ROW = 8
_GEOMETRY = ConvGeometry((1, 1), ((0, 0), (0, 0)), (1, 1))


class SkipLinearMixin(SkipConvMixin):
    """Makes a torch linear layer compute only what changed, in a stream.

    Tokens (L, ..., C_in) of N images are folded to (N, C_in, rows, columns)
    without a copy: L is a multiple of N, and tokens of an image lie side by
    side. Outside ``stream`` and ``clip`` it is the torch layer, bit for bit.
    """

    groups = 1
    padding_mode = 'zeros'
    #: Dimensions of a batch of images.
    dims = 4

    @property
    def in_channels(self) -> int:
        """Number of features of a token."""
        return self.in_features

    @property
    def out_channels(self) -> int:
        """Number of features of a result."""
        return self.out_features

    def kernel_of(self, weight: Tensor) -> Tensor:
        """View the weight (C_out, C_in) as a kernel (C_out, C_in, 1, 1)."""
        return weight[:, :, None, None]

    def geometry(self, x: Tensor) -> ConvGeometry:
        """Tell where this layer reads: one position for each output."""
        return _GEOMETRY

    def forward(self, input: Tensor) -> Tensor:
        """Run under the binding if there is one, else as the torch layer.

        Raises:
            InputError: The tokens cannot be told apart by images.
        """
        if self._binding is None:
            return super().forward(input)
        images = self._fold(input, self._binding.images)
        output = self._binding.run(self, images).permute(0, 2, 3, 1)
        return output.reshape(*input.shape[:-1], self.out_features)

    def foresee(
        self, x: Tensor, output: Tensor
    ) -> tuple[SkipMemory, NativeCall] | None:
        """Prepare a call site; see :meth:`SkipConvMixin.foresee`.

        Args:
            x: Tokens (L, ..., C_in) of the number that there will be.
            output: Results (L, ..., C_out).
        """
        images = self._binding.images
        return super().foresee(
            self._fold(x, images), self._fold(output, images)
        )

    def _fold(self, x: Tensor, images: int | None) -> Tensor:
        """Lay tokens out as images; see :class:`SkipLinearMixin`."""
        if x.dim() == 1:
            x = x[None]
        batch = images or len(x)
        # Of one image, tokens may lie in any order.
        if batch > 1 and (len(x) % batch or _may_lie_across(x, batch)):
            raise InputError(
                f'{self._binding.names[self]}: expected tokens of {batch} '
                f'images, image by image, got {tuple(x.shape)}; where they '
                'lie in another way, leave the layer dense (exclude), or run '
                'one image (one clip) at a time: batch_size=1 and '
                'num_frames=1'
            )
        positions = x.shape[:-1].numel() // batch
        width = row_length(positions)
        folded = x.reshape(batch, positions // width, width, x.shape[-1])
        return folded.permute(0, 3, 1, 2)


def _may_lie_across(x: Tensor, images: int) -> bool:
    """Tell if a batch (L, ..., C) may have images in another dimension.

    Tokens (L, N, C) of older attention and results (layers, N, queries, C)
    of decoders do, also where there are as many layers as images.
    """
    if len(x) == images:  # windows of time (N, T, H, W, C) lie well
        return x.dim() < 5 and images in x.shape[1:-1][:1]
    return images in x.shape[1:-1]


@lru_cache(maxsize=256)
def row_length(positions: int) -> int:
    """Choose the length of rows that a number of tokens is folded to.

    It is the longest that divides the number and is no longer than
    ``LONGEST_ROW``; all of it where only short ones do.
    """
    for length in range(min(LONGEST_ROW, positions), SHORTEST_ROW - 1, -1):
        if positions % length == 0:
            return length
    return max(positions, 1)


@MODELS.register_module()
class SkipLinear(SkipLinearMixin, nn.Linear):
    """Skips the computation of unchanged tokens in a ``torch.nn.Linear``.

    A mask has one entry for each token. With a ``block_size`` b of the gate,
    squares of b x b tokens fire together, of rows that
    :func:`row_length` tells.

    Args:
        *args: Passed on to ``torch.nn.Linear``.
        gate: A gate or its config.
        memory: ``previous`` or ``accumulated``, see
            :func:`.reference.skip_conv`.
        **kwargs: Passed on to ``torch.nn.Linear``.
    """

    dense_class = nn.Linear

    def __init__(
        self, *args, gate: dict | Gate, memory: str = 'previous', **kwargs
    ) -> None:
        super().__init__(*args, **kwargs)
        self.set_skip(gate, memory)


SKIP_LINEAR_CLASSES = (SkipLinear,)
try:
    from mmcv.cnn.bricks import Linear as MMCVLinear
except ImportError:  # mmcv is optional: torch and mmengine suffice
    pass
else:

    class SkipMMCVLinear(SkipLinearMixin, MMCVLinear, nn.Linear):
        """Skips in mmcv's ``Linear`` wrapper."""

        dense_class = MMCVLinear

    SKIP_LINEAR_CLASSES += (SkipMMCVLinear,)


class SkipConvTransposeMixin(SkipConvMixin):
    """Makes a transposed convolution compute only what changed, in a stream.

    An output fires for itself, by the inputs that it reads: of a kernel of 4
    with a stride of 2 that is 2 x 2 of them, others for the four outputs of
    each input (the phases). Its MACs are weight.numel() / (stride x stride).
    """

    def set_skip(self, gate: dict | Gate, memory: str) -> None:
        """Give a plain layer its gate; see :meth:`SkipConvMixin.set_skip`.

        Raises:
            ValueError: There is no skipping in such a layer.
        """
        reason = transposed_refusal(self)
        if reason is not None:
            raise ValueError(
                f'expected another layer than {reason}, got '
                f'kernel_size={self.kernel_size}, stride={self.stride}, '
                f'padding={self.padding}; leave it dense'
            )
        super().set_skip(gate, memory)

    def kernel_of(self, weight: Tensor) -> Tensor:
        """View the weight (C_in, C_out, ...) as operators take kernels."""
        return swap_channels(weight, self.groups)

    def forward(
        self, input: Tensor, output_size: list[int] | None = None
    ) -> Tensor:
        """Run under the binding if there is one, else as the torch layer.

        Raises:
            InputError: In a stream or clip, the output is to have a size that
                is not stride times that of the input.
        """
        own = [
            n * s for n, s in zip(input.shape[-2:], self.stride, strict=True)
        ]
        if output_size is None or list(output_size[-2:]) == own:
            return super().forward(input)
        if self._binding is not None:
            raise InputError(
                f'expected an output_size of {own} in a stream or clip, got '
                f'{list(output_size)}; leave a layer dense (exclude) that is '
                'asked for others'
            )
        output = self.dense_class.forward(self, input, output_size)
        if self._ledger is not None:
            macs = input.numel() * self.weight[0].numel()
            self._ledger.record(self, macs, macs)
        return activate_(output, self.activation)

    def _gate_macs(self, size: torch.Size, output: torch.Size) -> int:
        # The kernel is applied to inputs.
        return super()._gate_macs(size, torch.Size((*output[:2], *size[2:])))


def transposed_refusal(layer: nn.Module) -> str | None:
    """Say why a transposed convolution stays dense, None if it can skip.

    Args:
        layer: A transposed convolution.
    """
    what = 'a transposed convolution'
    if layer.groups > 1:
        return f'{what} in groups'
    if set(layer.dilation) != {1}:
        return f'{what} with dilation'
    for k, s, before, more in zip(
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.output_padding,
        strict=True,
    ):
        if k < s:
            return f'{what} with outputs that read no input'
        if k - s != 2 * before - more:
            return f'{what} whose output is not stride times its input'
    if layer.weight.numel() % math.prod(layer.stride):
        return f'{what} whose outputs have no whole number of MACs'
    return None


@MODELS.register_module()
class SkipConvTranspose2d(SkipConvTransposeMixin, nn.ConvTranspose2d):
    """Skips, like :class:`SkipConv2d`, in a ``ConvTranspose2d``.

    Its output is ``stride`` times as large as its input, as in the heads of
    SimpleBaseline, CenterNet and Mask R-CNN.

    Args:
        *args: Passed on to ``torch.nn.ConvTranspose2d``.
        gate: A gate or its config.
        memory: ``previous`` (the paper) or ``accumulated``.
        **kwargs: Passed on to ``torch.nn.ConvTranspose2d``.
    """

    dense_class = nn.ConvTranspose2d

    def __init__(
        self, *args, gate: dict | Gate, memory: str = 'previous', **kwargs
    ) -> None:
        super().__init__(*args, **kwargs)
        self.set_skip(gate, memory)


SKIP_TRANSPOSED_CLASSES = (SkipConvTranspose2d,)
try:
    from mmcv.cnn.bricks import ConvTranspose2d as MMCVConvTranspose2d
except ImportError:  # mmcv is optional: torch and mmengine suffice
    pass
else:

    class SkipMMCVConvTranspose2d(
        SkipConvTransposeMixin, MMCVConvTranspose2d, nn.ConvTranspose2d
    ):
        """Skips in mmcv's ``ConvTranspose2d`` wrapper."""

        dense_class = MMCVConvTranspose2d

    SKIP_TRANSPOSED_CLASSES += (SkipMMCVConvTranspose2d,)


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

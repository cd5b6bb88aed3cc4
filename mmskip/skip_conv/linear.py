"""Linear layers that compute, inside a stream or clip, only changed tokens.

A linear layer over tokens is a 1x1 convolution over positions (ours: the
paper of Skip-Convolutions has no transformers), so gates, memory, MACs and
kernels are those of :mod:`mmskip.skip_conv.layer`. A position is what stays in
its place from frame to frame at a call site: the order of tokens, windows
that are cut out, rolled or merged, make no difference.
"""

from functools import lru_cache

from torch import Tensor, nn

from mmskip.native import ConvGeometry
from mmskip.reading import InputError
from mmskip.registry import MODELS

from .gates import Gate
from .layer import SkipConvMixin
from .native_layer import NativeCall
from .reference import SkipMemory

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

    @staticmethod
    def kernel_of(weight: Tensor) -> Tensor:
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

"""Where a torch convolution reads."""

from torch import nn

from mmskip.ops import ConvGeometry


def conv_geometry(conv: nn.Module) -> ConvGeometry:
    """The geometry of a torch convolution, whatever names its padding."""
    if conv.padding_mode == 'zeros' and not isinstance(conv.padding, str):
        # What torch reads then, even if changed after construction.
        pairs = tuple((amount, amount) for amount in conv.padding)
    else:
        # Torch's own record, last dimension first; also for 'same'.
        amounts = conv._reversed_padding_repeated_twice
        pairs = tuple(zip(amounts[::2], amounts[1::2], strict=True))[::-1]
    return ConvGeometry(
        conv.stride, pairs, conv.dilation, conv.groups, conv.padding_mode
    )

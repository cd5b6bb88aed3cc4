"""A Skip-Convolution over whole clips, for training.

Skip-Convolutions for Efficient Video Processing (CVPR 2021), Eq. 3, over T
frames at once. Symbols: B clips, T frames, C channels.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .geometry import ConvGeometry, convolve, cover_sum

Decide = Callable[[Tensor, Tensor], Tensor]


def skip_clip(
    frames: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: ConvGeometry,
    decide: Decide,
    rule: str = 'previous',
) -> Tensor:
    """Compute clips whose first frame is the reference frame.

    Differentiable: gradients reach the kernel, all frames and, through
    ``decide``, the gate.

    Args:
        frames: (B, T, C_in, ...).
        weight: Kernel (C_out, C_in / groups, ...).
        bias: (C_out,) or None.
        geometry: Stride, padding, dilation, groups.
        decide: Takes residuals and the frames that they lead to, both
            (N, C_in, ...), and returns masks of 0 and 1, (N, 1, ...) of the
            output's size. Called with N = B * (T - 1), clip-major, or, for
            ``accumulated``, T - 1 times with N = B.
        rule: As of :func:`mmskip.ops.skip_conv`.

    Returns:
        (B, T, C_out, ...).
    """
    if rule == 'accumulated':
        inputs = _transmitted(frames, weight.shape[2:], geometry, decide)
        output = convolve(inputs.flatten(0, 1), weight, bias, geometry)
        return output.unflatten(0, frames.shape[:2])
    return _previous(frames, weight, bias, geometry, decide)


def _previous(
    frames: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: ConvGeometry,
    decide: Decide,
) -> Tensor:
    """All residuals in one convolution; the outputs are running sums."""
    residual = frames[:, 1:] - frames[:, :-1]
    pieces = torch.cat([frames[:, :1], residual], 1)
    change = convolve(pieces.flatten(0, 1), weight, None, geometry)
    change = change.unflatten(0, frames.shape[:2])
    first, later = change[:, :1], change[:, 1:]
    if later.numel():
        mask = decide(residual.flatten(0, 1), frames[:, 1:].flatten(0, 1))
        later = mask.unflatten(0, residual.shape[:2]) * later
    output = torch.cat([first, later], 1).cumsum(1)
    if bias is None:
        return output
    return output + bias.view(-1, *[1] * (output.dim() - 3))


def _transmitted(
    frames: Tensor,
    kernel_size: tuple[int, ...],
    geometry: ConvGeometry,
    decide: Decide,
) -> Tensor:
    """The inputs that the frames stand for, one frame after the other.

    An input is transmitted iff no output that reads it is silent:
    ``relu(1 - n)``, n the number of silent ones, is 1 then and else 0, and
    passes the gates' gradient on where it is 1.
    """
    sent = [frames[:, 0]]
    for frame in frames.unbind(1)[1:]:
        residual = frame - sent[-1]
        silent = cover_sum(
            1 - decide(residual, frame),
            kernel_size,
            geometry,
            frame.shape[2:],
        )
        sent.append(sent[-1] + torch.relu(1 - silent) * residual)
    return torch.stack(sent, 1)

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
    return _clip_previous(frames, weight, bias, geometry, decide)


def _clip_previous(
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
    """The inputs that the frames stand for, one frame after the other."""
    sent = [frames[:, 0]]
    for frame in frames.unbind(1)[1:]:
        residual = frame - sent[-1]
        closed = 1 - decide(residual, frame)
        whole = _all_open(closed, kernel_size, geometry, frame.shape[2:])
        sent.append(sent[-1] + whole * residual)
    return torch.stack(sent, 1)


def _all_open(
    closed: Tensor,
    kernel_size: tuple[int, ...],
    geometry: ConvGeometry,
    size: torch.Size,
) -> Tensor:
    """1 where no output that reads an input is closed, else 0.

    The product over the outputs' gates, with its gradient: an input that one
    gate alone holds back would be sent if that gate opened, so that gate has
    to hear from it; else a gate that has closed would never open again.
    """
    count = cover_sum(closed, kernel_size, geometry, size)
    whole = torch.relu(1 - count)
    if not closed.requires_grad:
        return whole
    # The same count; only gates that are closed pass its gradient on.
    held = cover_sum(closed * closed.detach(), kernel_size, geometry, size)
    return whole + torch.where(count == 1, 1 - held, 0)

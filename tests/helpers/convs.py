"""Convolutions of every linear kind, with exact arithmetic."""

import pytest
import torch
from torch import nn

CONVS_2D = {
    'plain': dict(kernel_size=3, padding=1),
    'no-bias': dict(kernel_size=3, padding=1, bias=False),
    'no-padding': dict(kernel_size=3),
    'pointwise': dict(kernel_size=1),
    'pointwise-stride': dict(kernel_size=1, stride=2),
    'stride': dict(kernel_size=3, stride=2, padding=1),
    'stride-larger-than-kernel': dict(kernel_size=2, stride=3),
    'dilation': dict(kernel_size=3, dilation=2, padding=2),
    'stride-dilation': dict(kernel_size=3, stride=2, dilation=3, padding=3),
    'groups': dict(kernel_size=3, padding=1, groups=2),
    'depthwise': dict(kernel_size=5, padding=2, groups=4),
    'oblong': dict(kernel_size=(1, 5), padding=(0, 2), stride=(2, 1)),
    'even-kernel': dict(kernel_size=4, padding=1, stride=2),
    'wide-padding': dict(kernel_size=1, padding=2),
    'reflect': dict(kernel_size=5, padding=2, padding_mode='reflect'),
    'replicate': dict(
        kernel_size=3, padding=3, stride=2, padding_mode='replicate'
    ),
    'circular': dict(
        kernel_size=3, padding=2, dilation=2, padding_mode='circular'
    ),
    'reflect-groups': dict(
        kernel_size=3,
        padding=(1, 2),
        stride=(1, 2),
        groups=2,
        padding_mode='reflect',
    ),
    'same': dict(kernel_size=(4, 3), padding='same'),
    'same-dilation': dict(kernel_size=2, dilation=3, padding='same'),
    'same-circular': dict(
        kernel_size=4, padding='same', padding_mode='circular'
    ),
    'valid': dict(kernel_size=3, padding='valid'),
}
CONVS_3D = {
    'plain': dict(kernel_size=3, padding=1),
    'spatial': dict(
        kernel_size=(1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)
    ),
    'temporal': dict(kernel_size=(3, 1, 1), padding=(1, 0, 0), bias=False),
    'depthwise': dict(kernel_size=3, stride=2, padding=1, groups=4),
    'dilation': dict(kernel_size=2, dilation=(1, 2, 2)),
    'same': dict(kernel_size=2, padding='same'),
    'reflect': dict(kernel_size=3, padding=1, padding_mode='reflect'),
    'replicate': dict(kernel_size=3, padding=1, padding_mode='replicate'),
    'circular': dict(kernel_size=3, padding=1, padding_mode='circular'),
}
# Sizes that are no multiple of any stride or block above.
SIZE = {2: (11, 14), 3: (4, 7, 9)}

ALL_CONVS = [
    pytest.param(dim, options, id=f'{dim}d-{name}')
    for dim, convs in ((2, CONVS_2D), (3, CONVS_3D))
    for name, options in convs.items()
]


def whole_numbers(*shape, low=-3, high=4):
    """A float tensor of small integers: sums of products are exact.

    Results then depend neither on the order of a sum nor on the algorithm,
    and tests may ask for equality bit for bit.
    """
    return torch.randint(low, high, shape).float()


def whole_weights(model):
    """Give a model small integers as parameters, and return it."""
    for parameter in model.parameters():
        parameter.data = whole_numbers(*parameter.shape).to(parameter.dtype)
    return model


def make_conv(dim, options):
    """A convolution from 4 to 8 channels with exact arithmetic."""
    conv_class = {2: nn.Conv2d, 3: nn.Conv3d}[dim]
    return whole_weights(conv_class(4, 8, **options))


def make_video(frames, *shape, share=0.2):
    """Frames (N, C, ...) of integers.

    From each to the next a share of all 3 x 3 blocks is new, and a share of
    all pixels is brighter by one.
    """
    video = [whole_numbers(*shape)]
    for _ in range(frames - 1):
        blocks = torch.rand(shape[0], 1, *shape[2:]) < share
        blocks = blocks[..., ::3, ::3].repeat_interleave(3, -1)
        blocks = blocks.repeat_interleave(3, -2)
        blocks = blocks[..., : shape[-2], : shape[-1]]
        brighter = torch.rand(shape[0], 1, *shape[2:]) < share
        frame = torch.where(blocks, whole_numbers(*shape), video[-1])
        video.append(frame + brighter)
    return video

"""One convolution, all options, rebuilt by linear maps."""

import pytest
import torch
import torch.nn.functional as F

from mmskip.core import open_gate
from mmskip.native import ConvGeometry
from mmskip.va_red2 import (
    CheapKernels,
    Mix,
    dynamic_conv,
    dynamic_macs,
    mix_factors,
    option_sizes,
)

SPATIAL = ConvGeometry((1, 1, 1), ((0, 0), (1, 1), (1, 1)), (1, 1, 1))
CUBE = ConvGeometry((2, 1, 1), ((2, 2), (1, 1), (1, 1)), (2, 1, 1))


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def make(frames, kernel, options, channels=5):
    sizes = option_sizes(channels, options)
    steps = range(options - 1)
    kernels = CheapKernels(
        tuple(double(sizes[i] - sizes[i + 1]) for i in steps),
        tuple(double(channels, 3) for _ in steps),
    )
    x = double(2, 3, frames, 3, 4)
    weight = double(channels, 3, kernel, 3, 3)
    weights = torch.rand(2, 2, options, dtype=torch.float64) + 0.1
    return x, weight, kernels, weights[0], weights[1]


def maker_of(kernels):
    return lambda key, like: mix_factors(key, kernels, like)


def literal(x, weight, geometry, time, channels, kernels):
    """Eq. 3.1 and 3.5 as printed: every option on its own, then the sum."""
    pads = [p for p, _ in geometry.padding]
    y = F.conv3d(x, weight, None, geometry.stride, pads, geometry.dilation)

    def by_channels(index):
        part = y[:, : option_sizes(y.shape[1], index + 1)[-1]]
        for kernel in reversed(kernels.channels[:index]):
            source = part[:, : len(kernel)] * kernel[:, None, None, None]
            part = torch.cat([part, source], 1)
        return part

    def by_time(z, index):
        part = [z[:, :, t] for t in range(0, z.shape[2], 2**index)]
        for step in reversed(range(index)):
            taps = kernels.time[step].T[:, :, None, None]
            frames = []
            for i, frame in enumerate(part):
                before = part[max(i - 1, 0)]
                after = part[min(i + 1, len(part) - 1)]
                rebuilt = before * taps[0] + frame * taps[1] + after * taps[2]
                frames += [frame, rebuilt]
            part = frames[: option_sizes(z.shape[2], step + 1)[-1]]
        return torch.stack(part, 2)

    def total(weights, option):
        return sum(
            w[:, None, None, None, None] * option(i)
            for i, w in enumerate(weights.unbind(1))
        )

    mixed = total(channels, by_channels)
    return total(time, lambda index: by_time(mixed, index))


@pytest.mark.parametrize('options', [2, 3])
@pytest.mark.parametrize('frames', [1, 2, 5, 8])
@pytest.mark.parametrize(('geometry', 'kernel'), [(SPATIAL, 1), (CUBE, 3)])
def test_the_sum_of_all_options_is_that_of_the_thesis(
    geometry, kernel, frames, options
):
    x, weight, kernels, time, channels = make(frames, kernel, options)
    every = tuple(range(options))

    y = dynamic_conv(
        x, weight, None, geometry, Mix(time, every), Mix(channels, every),
        maker_of(kernels),
    )  # fmt: skip

    expected = literal(x, weight, geometry, time, channels, kernels)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('used', [(1,), (2,), (1, 2), (0, 2)])
@pytest.mark.parametrize('frames', [1, 5, 8])
@pytest.mark.parametrize(('geometry', 'kernel'), [(SPATIAL, 1), (CUBE, 3)])
def test_computing_only_the_largest_used_option_changes_nothing(
    geometry, kernel, frames, used
):
    x, weight, kernels, time, channels = make(frames, kernel, 3)
    unused = [i for i in range(3) if i not in used]
    time[:, unused] = channels[:, unused] = 0

    y = dynamic_conv(
        x, weight, None, geometry, Mix(time, used), Mix(channels, used),
        maker_of(kernels),
    )  # fmt: skip

    expected = literal(x, weight, geometry, time, channels, kernels)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)


def test_gradients_are_exact():
    x, weight, kernels, time, channels = make(3, 1, 3, channels=4)
    time.requires_grad_()
    channels.requires_grad_()
    every = (0, 1, 2)

    def run(x, weight, bias, time, channels, *flat):
        maps = CheapKernels(flat[:2], flat[2:])
        mixes = Mix(time, every), Mix(channels, every)
        make_factors = maker_of(maps)
        return dynamic_conv(x, weight, bias, SPATIAL, *mixes, make_factors)

    flat = (*kernels.channels, *kernels.time)
    inputs = (x, weight, double(4), time, channels, *flat)
    assert torch.autograd.gradcheck(run, inputs)


def test_macs_of_half_time_and_half_channels_in_closed_form():
    kernels = CheapKernels((torch.ones(72),), (torch.ones(144, 3),))

    executed, rest = dynamic_macs(
        (144, 8, 28, 28), 64 * 9, (1,), (1,), kernels
    )

    area = 28 * 28
    assert executed == 72 * 4 * area * 64 * 9
    # Of 4 frames rebuilt, those at the ends have one neighbour less.
    terms_of_frames = 4 + 2 + 3 + 3 + 2
    assert rest == 144 * terms_of_frames * area


def test_macs_of_an_odd_number_of_frames_and_channels():
    kernels = CheapKernels((torch.ones(2),), (torch.ones(5, 1),))

    executed, rest = dynamic_macs((5, 3, 2, 2), 10, (0, 1), (1,), kernels)

    assert executed == 3 * 3 * 4 * 10
    # Both options share the frames that are computed.
    assert rest == 5 * (3 + 1) * 4


def test_a_closed_gate_hears_only_what_would_open_it():
    logits = torch.tensor([-1.0, -1.0, 1.0], requires_grad=True)

    y = open_gate(logits, 0.1)
    y.backward(torch.tensor([1.0, -1.0, 1.0]))

    slope = 1 - torch.tensor(1.0).tanh() ** 2
    assert y.tolist()[:2] == [0, 0]
    torch.testing.assert_close(
        logits.grad, torch.stack([slope * 0, -0.1 * slope, slope])
    )

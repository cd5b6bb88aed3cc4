"""Where a convolution reads, and who reads an input."""

import pytest
import torch
from torch.autograd import gradcheck

from mmskip.native import ConvGeometry, convolve, cover_sum, support_sum
from mmskip.native.geometry import output_size
from tests.helpers.convs import ALL_CONVS, SIZE, make_conv, whole_numbers


def geometry_of(conv):
    amounts = conv._reversed_padding_repeated_twice
    pairs = [tuple(amounts[i : i + 2]) for i in range(0, len(amounts), 2)]
    return ConvGeometry(
        conv.stride,
        tuple(reversed(pairs)),
        conv.dilation,
        conv.groups,
        conv.padding_mode,
    )


@pytest.mark.parametrize(('dim', 'options'), ALL_CONVS)
def test_convolve_is_the_torch_layer(dim, options):
    conv = make_conv(dim, options)
    x = whole_numbers(2, 4, *SIZE[dim])

    output = convolve(x, conv.weight, conv.bias, geometry_of(conv))

    assert torch.equal(output, conv(x))


@pytest.mark.parametrize(('dim', 'options'), ALL_CONVS)
def test_output_size_is_that_of_the_torch_layer(dim, options):
    conv = make_conv(dim, options)
    expected = conv(whole_numbers(1, 4, *SIZE[dim])).shape[2:]

    size = output_size(SIZE[dim], conv.kernel_size, geometry_of(conv))

    assert size == tuple(expected)


@pytest.mark.parametrize(('dim', 'options'), ALL_CONVS)
def test_cover_sum_is_the_adjoint_of_support_sum(dim, options):
    conv = make_conv(dim, options)
    kernel, geometry = conv.kernel_size, geometry_of(conv)
    x = whole_numbers(2, 1, *SIZE[dim])
    seen = support_sum(x, kernel, geometry)
    y = whole_numbers(*seen.shape)

    covered = cover_sum(y, kernel, geometry, x.shape[2:])

    assert covered.shape == x.shape
    for image in range(2):
        assert (seen * y)[image].sum() == (x * covered)[image].sum()


@pytest.mark.parametrize(('dim', 'options'), ALL_CONVS)
def test_windows_of_small_maps_are_summed_as_those_of_large_ones(
    dim, options, monkeypatch
):
    conv = make_conv(dim, options)
    kernel, geometry = conv.kernel_size, geometry_of(conv)
    x = whole_numbers(2, 1, *SIZE[dim])
    sums = support_sum(x, kernel, geometry)
    covered = cover_sum(sums, kernel, geometry, x.shape[2:])

    monkeypatch.setattr('mmskip.native.geometry.POOLED', 0)

    assert torch.equal(support_sum(x, kernel, geometry), sums)
    again = cover_sum(sums, kernel, geometry, x.shape[2:])
    assert torch.equal(again, covered)


def test_support_sum_counts_the_inputs_of_each_output():
    geometry = ConvGeometry((1, 1), ((1, 1), (1, 1)), (1, 1))

    support = support_sum(torch.ones(1, 1, 3, 4), (3, 3), geometry)

    assert support[0, 0].tolist() == [
        [4, 6, 6, 4],
        [6, 9, 9, 6],
        [4, 6, 6, 4],
    ]


def test_cover_sum_is_zero_where_no_output_reads():
    geometry = ConvGeometry((2, 3), ((0, 0), (0, 0)), (1, 1))

    cover = cover_sum(torch.ones(1, 1, 2, 2), (1, 1), geometry, (4, 5))

    assert cover[0, 0].tolist() == [
        [1, 0, 0, 1, 0],
        [0, 0, 0, 0, 0],
        [1, 0, 0, 1, 0],
        [0, 0, 0, 0, 0],
    ]


def test_cover_sum_folds_mirrored_padding_back():
    # Outputs 0..2 of a row (a b c) padded to (b a b c b) with a 3-tap kernel.
    geometry = ConvGeometry((1, 1), ((0, 0), (1, 1)), (1, 1), 1, 'reflect')
    only_first = torch.tensor([1.0, 0, 0]).view(1, 1, 1, 3)

    cover = cover_sum(only_first, (1, 3), geometry, (1, 3))

    assert cover.flatten().tolist() == [1, 2, 0]


@pytest.mark.parametrize(('dim', 'options'), ALL_CONVS)
def test_support_sum_is_the_convolution_with_ones(dim, options):
    geometry = geometry_of(conv := make_conv(dim, options))
    x = whole_numbers(2, 1, *SIZE[dim])
    ones = torch.ones(1, 1, *conv.kernel_size)

    support = support_sum(x, conv.kernel_size, geometry)

    expected = convolve(x, ones, None, geometry._replace(groups=1))
    assert torch.equal(support, expected)


@pytest.mark.parametrize('mode', ['zeros', 'reflect'])
def test_sums_have_gradients(mode):
    geometry = ConvGeometry((2, 1), ((1, 1), (2, 2)), (1, 2), 1, mode)
    x = torch.randn(2, 1, 5, 6, dtype=torch.float64, requires_grad=True)
    y = torch.randn(2, 1, 3, 6, dtype=torch.float64, requires_grad=True)

    assert gradcheck(lambda x: support_sum(x, (3, 3), geometry), x)
    assert gradcheck(lambda y: cover_sum(y, (3, 3), geometry, (5, 6)), y)

"""From a residual to a mask of outputs worth computing."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from mmskip.native import ConvGeometry, support_sum
from mmskip.skip_conv import (
    Folding,
    GateParams,
    block_mask,
    gate_macs,
    gate_mask,
    gate_scale,
    gate_statistic,
    relative_scale,
    signal_norms,
)
from mmskip.skip_conv.gate_mask import log_power, support_power
from tests.helpers.convs import whole_numbers

ONE = torch.ones(())
SAME_3X3 = ConvGeometry((1, 1), ((1, 1), (1, 1)), (1, 1))
POINTWISE = ConvGeometry((1, 1), ((0, 0), (0, 0)), (1, 1))
NORMS = pytest.mark.parametrize('kind', ['input_norm', 'output_norm'])


def fires_3x3(residual, threshold, **options):
    gate = GateParams('input_norm', threshold, **options)
    return gate_mask(residual, ONE, (3, 3), SAME_3X3, gate)


def test_output_norm_scales_by_the_mean_l1_norm_of_a_filter():
    weight = torch.tensor([1.0, -2, 3, -4]).view(2, 1, 1, 2)

    scale = gate_scale(GateParams('output_norm', 0), weight)

    assert scale.item() == (3 + 7) / 2


def test_output_norm_of_order_2_scales_by_the_rms_l2_norm_of_a_filter():
    weight = torch.tensor([3.0, 4, 0, -5]).view(2, 1, 1, 2)

    scale = gate_scale(GateParams('output_norm', 0, order=2), weight)

    assert scale.item() == pytest.approx(((25 + 25) / 2) ** 0.5)


def test_input_norm_does_not_look_at_the_weights():
    scale = gate_scale(GateParams('input_norm', 0), whole_numbers(4, 4, 3, 3))

    assert scale.item() == 1


def test_scale_does_not_overflow_in_half_precision():
    weight = torch.full((1024, 512, 3, 3), 0.02, dtype=torch.half)

    scale = gate_scale(GateParams('output_norm', 0), weight)

    assert scale.item() == pytest.approx(0.02 * 512 * 9, rel=1e-2)


def test_scale_carries_no_gradient():
    weight = torch.ones(2, 2, 3, 3, requires_grad=True)

    assert not gate_scale(GateParams('output_norm', 0), weight).requires_grad


@pytest.mark.parametrize('order', [1, 2])
@pytest.mark.parametrize('channels', [1, 8, 64])
@pytest.mark.parametrize('size', [(8, 8), (8, 64), (32, 8)])
def test_statistic_depends_neither_on_the_size_nor_on_channels(
    size, channels, order
):
    residual = torch.full((1, channels, *size), -0.25)

    statistic = gate_statistic(residual, ONE, (3, 3), SAME_3X3, order)

    inner = statistic[..., 1:-1, 1:-1]
    assert torch.allclose(inner, torch.tensor(0.25))


@pytest.mark.parametrize('kernel', [1, 3, 5])
@pytest.mark.parametrize('groups', [1, 4])
@pytest.mark.parametrize('channels', [4, 16])
def test_output_norm_is_the_change_of_the_output_where_none_cancels(
    channels, groups, kernel
):
    weight = torch.rand(1, 1, kernel, kernel).expand(
        8, channels // groups, kernel, kernel
    )
    residual = torch.full((1, channels, 9, 9), 0.5)
    geometry = ConvGeometry((1, 1), ((0, 0), (0, 0)), (1, 1), groups)
    change = torch.conv2d(residual, weight, groups=groups)

    statistic = gate_statistic(
        residual,
        gate_scale(GateParams('output_norm', 0), weight),
        (kernel, kernel),
        geometry,
        order=1,
    )

    assert torch.allclose(statistic, change[:, :1])


def test_order_2_is_the_root_mean_square():
    residual = torch.tensor([3.0, 4, 0, 0]).view(1, 2, 1, 2)
    geometry = ConvGeometry((1, 1), ((0, 0), (0, 0)), (1, 1))

    statistic = gate_statistic(residual, ONE, (1, 2), geometry, order=2)

    assert statistic.item() == (25 / 4) ** 0.5


def test_gate_is_strict_at_equality_and_never_half_open():
    residual = torch.full((1, 2, 4, 4), 0.5)
    at, below = 0.5, 0.4999
    gates = [GateParams('input_norm', threshold) for threshold in (at, below)]

    masks = [gate_mask(residual, ONE, (1, 1), POINTWISE, g) for g in gates]

    assert masks[0].dtype == torch.bool
    assert not masks[0].any()
    assert masks[1].all()


@pytest.mark.parametrize('order', [1, 2])
def test_threshold_0_fires_nothing_without_change(order):
    assert not fires_3x3(torch.zeros(1, 3, 8, 8), 0, order=order).any()


def test_a_negative_threshold_is_always_open():
    assert fires_3x3(torch.zeros(1, 3, 8, 8), -1).all()


def test_a_nan_fires_where_it_is_read_and_only_there():
    residual = torch.zeros(1, 3, 5, 6)
    residual[0, 1, 0, 2] = float('nan')

    mask = fires_3x3(residual, 1e9)

    assert mask.nonzero()[:, 2:].tolist() == [
        [row, column] for row in (0, 1) for column in (1, 2, 3)
    ]


@pytest.mark.parametrize(
    ('kernel', 'geometry'),
    [
        ((3, 3), ConvGeometry((1, 1), ((2, 2), (2, 2)), (2, 2))),
        ((3, 3), ConvGeometry((2, 3), ((1, 1), (1, 1)), (1, 1))),
        ((2, 3), ConvGeometry((2, 1), ((0, 1), (3, 3)), (1, 3))),
        ((3, 3), ConvGeometry((1, 1), ((1, 1), (1, 1)), (1, 1), 1, 'reflect')),
    ],
    ids=['dilation', 'stride', 'both', 'reflect'],
)
def test_exactly_the_outputs_that_read_a_change_fire(kernel, geometry):
    size = (9, 10)
    for row in range(size[0]):
        residual = torch.zeros(1, 1, *size)
        residual[0, 0, row, 4] = 1
        gate = GateParams('input_norm', 0)

        mask = gate_mask(residual, ONE, kernel, geometry, gate)

        assert torch.equal(mask, support_sum(residual, kernel, geometry) > 0)


@pytest.mark.parametrize('size', [(20, 20), (7, 9), (1, 1), (8, 16), (3, 30)])
@pytest.mark.parametrize('block', [1, 2, 4, 8])
def test_a_block_fires_iff_any_of_its_positions_does(block, size):
    mask = torch.rand(2, 1, *size) < 0.05
    expected = torch.zeros_like(mask)
    for top in range(0, size[0], block):
        for left in range(0, size[1], block):
            here = ..., slice(top, top + block), slice(left, left + block)
            expected[here] = mask[here].flatten(1).any(1).view(2, 1, 1, 1)

    assert torch.equal(block_mask(mask, block), expected)


def test_blocks_of_3d_masks_do_not_reach_into_other_times():
    mask = torch.zeros(1, 1, 3, 5, 5, dtype=torch.bool)
    mask[0, 0, 1, 4, 4] = True

    blocks = block_mask(mask, 4)

    assert blocks.shape == mask.shape
    assert blocks.nonzero()[:, 2:].tolist() == [[1, 4, 4]]


@NORMS
def test_the_gate_applies_its_block_size(kind):
    residual = torch.zeros(1, 1, 20, 20)
    residual[0, 0, 10, 10] = 1
    gate = GateParams(kind, 0, block_size=8)

    mask = gate_mask(residual, ONE, (1, 1), POINTWISE, gate)

    assert mask.sum() == 64
    assert mask[0, 0, 8:16, 8:16].all()


def test_gate_macs_are_one_per_input_and_one_per_kernel_position():
    inputs, outputs = torch.Size((2, 3, 8, 8)), torch.Size((2, 16, 4, 4))

    assert gate_macs(inputs, outputs, kernel=9) == 2 * (3 * 64 + 9 * 16)


def checks(*steps):
    """A map (1, C, 4, 6) of a checkerboard for each channel, so contrasty."""
    board = (torch.arange(4)[:, None] + torch.arange(6)).remainder(2)
    return torch.stack([step * board for step in steps])[None].float()


def test_a_level_is_how_much_neighbours_differ():
    # The root mean square of 1 and 7 is 5.
    scale = relative_scale(checks(1, 7), None)

    assert scale.tolist() == torch.full((1, 1, 1, 1), 1 / 5).tolist()


@pytest.mark.parametrize('order', [1, 2])
def test_a_level_is_in_units_of_the_kernels_norm(order):
    gate = GateParams('output_norm', 0, order=order)
    weight = torch.tensor([[3.0, 4.0], [5.0, 0.0]]).view(2, 2, 1, 1)
    norms = signal_norms(gate, weight)

    assert norms.tolist() == [6, 6] if order == 1 else [5, 5]
    scale = relative_scale(checks(4, 4), norms).item()
    assert scale == gate_scale(gate, weight).item() / 4


def test_what_is_everywhere_the_same_does_not_count():
    signal = checks(1, 7)

    for offset in (64, -1024):
        assert torch.equal(
            relative_scale(signal + offset, None), relative_scale(signal, None)
        )


def test_padding_of_another_grey_does_not_count():
    picture = checks(1, 7)
    padded = F.pad(picture, (0, 0, 0, 4), value=114)

    plain, wide = (relative_scale(x, None) for x in (picture, padded))

    assert torch.equal(wide, 2 * plain)  # half of the rows are plain


def test_a_normalisation_that_is_folded_does_not_change_a_level():
    gate = GateParams('output_norm', 0, order=2)
    weight, output = whole_numbers(2, 3, 3, 3), checks(1, 7)
    factor, shift = torch.tensor([4.0, -0.5]), torch.tensor([256.0, -64])
    folded = gate._replace(folded=Folding(factor, shift))
    wide = factor.view(-1, 1, 1, 1)

    plain = relative_scale(output, signal_norms(gate, weight))
    after = relative_scale(
        factor.view(1, -1, 1, 1) * output + shift.view(1, -1, 1, 1),
        signal_norms(folded, wide * weight),
    )

    assert torch.equal(after, plain)


def test_a_kernel_of_zeros_has_a_level():
    gate = GateParams('output_norm', 0)
    norms = signal_norms(gate, torch.zeros(2, 3, 3, 3))

    assert relative_scale(torch.zeros(1, 2, 4, 6), norms).item() == 1e6


def test_every_stream_has_a_level_of_its_own():
    both = torch.cat([checks(1, 1), checks(8, 8)])

    scale = relative_scale(both, None)

    assert scale.shape == (2, 1, 1, 1)
    assert scale.flatten().tolist() == [1, 1 / 8]


def test_a_level_of_clips_is_that_of_their_images():
    image = checks(1, 7)
    clip = torch.stack([image, image], 2)

    assert relative_scale(clip, None).item() == relative_scale(image, None)


def test_a_map_of_one_column_fires_on_any_change():
    assert relative_scale(torch.randn(1, 3, 5, 1), None).item() == 1e6


@pytest.mark.parametrize('height', [33, 64, 1000])
def test_some_rows_of_a_tall_map_stand_for_all(height):
    torch.manual_seed(0)
    signal = torch.randn(1, 8, height, 100)

    (scale,) = relative_scale(signal, None).flatten().tolist()

    assert 1 / scale == pytest.approx(2 / math.pi**0.5, rel=0.02)


@pytest.mark.parametrize('dtype', [torch.float, torch.half])
def test_a_silent_layer_with_a_relative_gate_fires_on_any_change(dtype):
    gate = GateParams('output_norm', 0.5, relative=True)
    silence = torch.zeros(1, 1, 3, 3, dtype=dtype)
    scale = relative_scale(silence, None)

    fired = [
        gate_mask(residual, scale, (3, 3), SAME_3X3, gate)
        for residual in (silence + 1e-3, silence)
    ]

    assert fired[0].all()
    assert not fired[1].any()


@pytest.mark.parametrize('order', [1, 2])
@pytest.mark.parametrize(
    ('kernel', 'geometry'),
    [
        ((1, 1), POINTWISE),
        ((1, 1), POINTWISE._replace(stride=(2, 2))),
        ((3, 3), SAME_3X3._replace(stride=(2, 1))),
    ],
    ids=['pointwise', 'strided', '3x3'],
)
def test_the_logarithm_of_the_power_has_gradients(order, kernel, geometry):
    residual = torch.randn(2, 3, 5, 4, dtype=torch.float64)

    power = support_power(residual, kernel, geometry, order)
    logarithm = log_power(residual, kernel, geometry, order)

    torch.testing.assert_close(logarithm.exp(), power)
    assert gradcheck(
        lambda r: log_power(r, kernel, geometry, order),
        residual.requires_grad_(),
    )


def test_where_nothing_has_changed_the_logarithm_has_the_gradient_0():
    residual = torch.zeros(1, 2, 3, 3, requires_grad=True)

    log_power(residual, (3, 3), SAME_3X3, 2).sum().backward()

    assert residual.grad.eq(0).all()

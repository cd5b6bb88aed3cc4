import pytest
import torch

from mmskip.native.geometry import conv_geometry
from mmskip.skip_conv import (
    MEMORY_RULES,
    WARP_MACS,
    GateParams,
    SkipParams,
    skip_conv,
    warp,
    warp_memory,
)
from tests.helpers.convs import CONVS_2D, make_conv, whole_numbers

OPEN = GateParams('input_norm', 0.0)
CLOSED = GateParams('input_norm', 1e9)


def shift(x, y=0.0):
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[0, 2], matrix[1, 2] = x, y
    return matrix[None]


class Panned:
    """A convolution over a window that slides over a large image."""

    def __init__(self, options, size=(13, 17)):
        torch.manual_seed(0)
        self.conv = make_conv(2, options)
        self.size = size
        self.image = whole_numbers(1, 4, size[0] + 40, size[1] + 40)

    def window(self, x, y):
        height, width = self.size
        return self.image[..., 20 + y :, 20 + x :][..., :height, :width]

    def step(self, frame, memory, gate, rule='accumulated'):
        conv = self.conv
        geometry = conv_geometry(conv)
        params = SkipParams(conv.weight, conv.bias, geometry, gate, rule)
        with torch.no_grad():
            return skip_conv(frame, memory, params)

    def follow(self, memory, x, y=0, interpolate=False):
        return warp_memory(
            memory,
            shift(x, y),
            self.size,
            self.conv.kernel_size,
            conv_geometry(self.conv),
            interpolate,
        )


@pytest.mark.parametrize('rule', MEMORY_RULES)
@pytest.mark.parametrize('options', CONVS_2D.values(), ids=CONVS_2D)
@pytest.mark.parametrize('cells', [(1, 0), (0, -1), (2, 1), (-40, 0)])
def test_what_is_not_exposed_is_exact_after_whole_steps(options, cells, rule):
    panned = Panned(options)
    stride = panned.conv.stride
    x, y = cells[0] * stride[1], cells[1] * stride[0]
    first = panned.window(0, 0)
    second = panned.window(max(x, -20), y)
    _, _, memory = panned.step(first, None, CLOSED, rule)
    warped = panned.follow(memory, x, y)
    assert warped.macs == 0
    if abs(x) < panned.size[1]:
        with torch.no_grad():
            dense = panned.conv(second)
        wrong = (warped.memory.output != dense).any(1, keepdim=True)
        assert not (wrong & ~warped.memory.exposed).any()
    output, mask, _ = panned.step(second, warped.memory, CLOSED, rule)
    assert torch.equal(mask, warped.memory.exposed)
    if abs(x) < panned.size[1]:
        assert torch.equal(output, dense)
    else:
        assert mask.all()


def test_a_pan_exposes_the_band_that_comes_in_and_both_borders():
    panned = Panned(dict(kernel_size=3, padding=1))
    _, _, memory = panned.step(panned.window(0, 0), None, CLOSED)
    exposed = panned.follow(memory, 3).memory.exposed
    columns = exposed[0, 0].all(0)
    assert torch.equal(exposed[0, 0].any(0), columns)
    # What was padding on the left, then one tap and three columns.
    expected = [c in (0, 13, 14, 15, 16) for c in range(17)]
    assert columns.tolist() == expected


def test_motion_of_less_than_a_cell_is_pending_until_it_adds_up():
    panned = Panned(dict(kernel_size=3, padding=1, stride=4))
    _, _, memory = panned.step(panned.window(0, 0), None, CLOSED)
    moves = []
    for _ in range(8):
        memory = panned.follow(memory, 1).memory
        moves.append(memory.exposed is not None)
        _, _, memory = panned.step(panned.window(0, 0), memory, CLOSED)
    # Rounds half to even: at 3 (0.75 cells) and 7 (1.75).
    assert moves == [False, False, True, False, False, False, True, False]
    assert memory.pending[0, 0, 2] == 0


@pytest.mark.parametrize('rule', MEMORY_RULES)
def test_threshold_zero_is_dense_whatever_the_motion(rule):
    panned = Panned(dict(kernel_size=3, padding=1, stride=2))
    memory = None
    for t, given in enumerate([0, 1.7, 3, -5.2, 40]):
        if memory is not None:
            memory = panned.follow(memory, given, 0.5 * t).memory
        frame = panned.window(2 * t, t)
        output, _, memory = panned.step(frame, memory, OPEN, rule)
        with torch.no_grad():
            assert torch.equal(output, panned.conv(frame))


def test_interpolation_moves_by_fractions_and_costs_four_per_value():
    x = torch.arange(6.0).repeat(2, 1, 4, 1)
    maps = torch.cat([shift(0.25), shift(2)])
    moved, values = warp(x, maps)
    assert values == x[0].numel()
    assert moved[0, 0, 1, :5] == pytest.approx([0.25, 1.25, 2.25, 3.25, 4.25])
    assert moved[1, 0, 1].tolist() == [2, 3, 4, 5, 0, 0]
    panned = Panned(dict(kernel_size=1))
    _, _, memory = panned.step(panned.window(0, 0), None, CLOSED)
    warped = panned.follow(memory, 0.5, interpolate=True)
    assert warped.macs == WARP_MACS * (4 + 8) * 13 * 17
    assert warped.memory.exposed[0, 0].any(0).tolist() == [False] * 16 + [True]


def test_interpolation_keeps_to_whole_cells_where_no_residual_would_tell():
    panned = Panned(dict(kernel_size=3, padding=1, stride=2))
    _, _, memory = panned.step(panned.window(0, 0), None, CLOSED)
    warped = panned.follow(memory, 3, interpolate=True)
    assert warped.macs == 0
    assert warped.memory.pending[0, 0, 2] == -1


def test_streams_move_each_on_its_own():
    panned = Panned(dict(kernel_size=3, padding=1))
    frames = [panned.window(0, 0), panned.window(0, 0)]
    _, _, memory = panned.step(torch.cat(frames), None, CLOSED)
    maps = torch.cat([shift(0), shift(2, 1)])
    geometry = conv_geometry(panned.conv)
    both = warp_memory(memory, maps, panned.size, (3, 3), geometry).memory
    _, _, alone = panned.step(frames[0], None, CLOSED)
    alone = panned.follow(alone, 2, 1).memory
    assert not both.exposed[0].any()
    assert torch.equal(both.output[0], memory.output[0])
    assert torch.equal(both.exposed[1], alone.exposed[0])
    assert torch.equal(both.output[1], alone.output[0])


def test_a_layer_that_did_not_run_since_is_computed_in_full():
    panned = Panned(dict(kernel_size=3, padding=1))
    _, _, memory = panned.step(panned.window(0, 0), None, CLOSED)
    memory = panned.follow(memory, 1).memory
    assert panned.follow(memory, 1).memory.exposed.all()

"""What a board keeps between frames, and what it refuses."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmskip.native import ConvGeometry, activate_
from mmskip.native import library as native
from mmskip.skip_conv import MEMORY_RULES, GateParams, native_call, skip_conv
from mmskip.skip_conv.native_layer import PackedWeight
from tests.helpers.any_layer import gated_layers, make_frames

pytestmark = pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)

NOWHERE, MAPPED, ANYWHERE = range(3)


def image(*shape):
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


def sum_board(activation=None, *images, scale=None, shift=None):
    """A board with a sum of images, and its result."""
    board = native.new_board(len(images) + 1)
    for index, x in enumerate(images):
        board.put(index, x)
    result = torch.empty_like(images[0])
    sources, target = list(range(len(images))), len(images)
    board.add_sum(sources, target, result, scale, shift, activation)
    return board, result


def make_call(gated_layer, rule, first, with_bias, activation=None):
    """A call site after its reference frame, and again with an activation."""
    (geometry, shape, *_), gate = gated_layer
    weight = torch.randn(shape) / torch.Size(shape[1:]).numel() ** 0.5
    bias = torch.randn(shape[0]) if with_bias else None
    job = (weight, bias, geometry, gate, rule, PackedWeight())
    memory = skip_conv(first, None, *job)[2]
    return [
        native_call(first, memory.clone(), *job, activation=a)
        for a in (None, activation)
    ]


def activated(x, activation):
    return native.silu(x) if activation == 'silu' else x.relu()


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(
    gated_layer=gated_layers(),
    rule=st.sampled_from(MEMORY_RULES),
    batch=st.integers(1, 3),
    share=st.sampled_from([0.03, 0.3]),
    drift=st.sampled_from([0.0, 0.02, 0.2]),
    with_bias=st.booleans(),
    activation=st.sampled_from([None, 'relu', 'silu']),
    seed=st.integers(0, 99),
)
@torch.no_grad()
def test_a_convolution_computes_what_it_does_without_a_board(
    gated_layer, rule, batch, share, drift, with_bias, activation, seed
):
    torch.manual_seed(seed)
    (_, _, channels, size), _ = gated_layer
    frames = make_frames(4, batch, channels, size, share)
    # Rests, what drifts at a few places, what comes back.
    there = torch.rand(batch, 1, *size) < share
    drifts = [
        frames[-1] + drift * n * there * torch.randn_like(frames[-1])
        for n in range(4)
    ]
    frames += [frames[-1], *drifts, drifts[-1], drifts[-1], frames[2]]
    call, other = make_call(
        gated_layer, rule, frames[0], with_bias, activation
    )
    board, x = native.new_board(3), torch.empty(0)
    copy = frames[0].contiguous(memory_format=torch.channels_last).clone()
    output = other.arguments[1]
    mask = torch.zeros_like(output[:, :1], dtype=torch.bool).contiguous()
    board.add_follow(0, 1, copy)
    result = activated(output, activation) if activation else None
    board.add_conv(1, 2, mask, result, *other.arguments)

    for x in frames[1:]:
        expected, expected_mask = call.run(x)
        board.put(0, x)
        board.run(0, 2)

        assert torch.equal(copy, x)
        assert torch.equal(mask, expected_mask)
        assert torch.equal(output, expected)
        if activation:
            assert torch.equal(result, activated(expected, activation))
        assert torch.equal(other.arguments[0], call.arguments[0])
        assert board.change(2) == (MAPPED if mask.any() else NOWHERE)


def test_what_is_pending_around_an_output_fires_again_at_rest():
    # Four pending inputs in a diamond: each of the outputs that read the one
    # in the middle fires, so that it is sent, time and again; none of them is.
    weight = torch.randn(4, 1, 3, 3)
    from_zero = torch.zeros(1, 1, 12, 12)
    gate = native_gate(1.0)
    job = (weight, None, *gate, 'accumulated', PackedWeight())
    with torch.no_grad():
        memory = skip_conv(from_zero, None, *job)[2]
    call = native_call(from_zero, memory, *job)
    board = native.new_board(2)
    mask = torch.zeros(1, 1, 12, 12, dtype=torch.bool)
    board.add_conv(0, 1, mask, None, *call.arguments)
    x = from_zero.clone()
    for h, w in ((5, 6), (7, 6), (6, 5), (6, 7)):
        x[..., h, w] = 0.6 * 9
    board.put(0, x)

    board.mark(0, ANYWHERE, None)
    for _ in range(3):
        board.run(0, 1)
        assert mask.sum() == 9
        board.mark(0, NOWHERE, None)


def native_gate(threshold):
    geometry = ConvGeometry((1, 1), ((1, 1), (1, 1)), (1, 1))
    return geometry, GateParams('input_norm', threshold)


@pytest.mark.parametrize('channels', [1, 5, 16, 33])
@pytest.mark.parametrize('activation', [None, 'relu', 'silu'])
def test_activations_are_those_of_torch(activation, channels):
    values = torch.linspace(-100, 100, 4 * 12 * channels).view(1, 4, 12, -1)
    values[0, 0, 0] = 0.0
    values[0, 0, 1] = -0.0
    values[0, 0, 2] = 1e-30
    values[0, 0, 3] = -3e38
    values[0, 0, 4] = 3e38
    x = values.permute(0, 3, 1, 2)

    board, result = sum_board(activation, x)
    board.run(0, 1)

    expected = activate_(x.clone(), activation)
    if activation == 'silu':
        # Below -87 torch goes on to 0, and this stays at -87 * e^-87.
        assert torch.allclose(result, expected, rtol=1e-6, atol=1e-34)
    else:
        assert torch.equal(result, expected)


@pytest.mark.parametrize('activation', [None, 'relu', 'silu'])
@pytest.mark.parametrize('channels', [1, 16, 37])
def test_a_sum_is_scaled_before_its_activation(activation, channels):
    images = image(2, channels, 3, 5), image(2, channels, 3, 5)
    scale, shift = torch.randn(2, channels)

    board, result = sum_board(activation, *images, scale=scale, shift=shift)
    board.run(0, 1)

    scaled = sum(images) * scale[:, None, None] + shift[:, None, None]
    expected = activate_(scaled, activation)
    assert torch.allclose(result, expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.booleans(),
    to_the_edge=st.booleans(),
    channels=st.sampled_from([1, 16, 21]),
    seed=st.integers(0, 99),
)
def test_maxima_are_those_of_torch_where_the_image_changed(
    kernel, stride, pads, to_the_edge, channels, seed
):
    torch.manual_seed(seed)
    padding = [k // 2 if pads else 0 for k in kernel]

    def pool(x):
        return F.max_pool2d(x, kernel, stride, padding, ceil_mode=to_the_edge)

    x = image(2, channels, 9, 11)
    result = image(*pool(x).shape)
    board = native.new_board(2)
    board.put(0, x)
    board.add_pool(0, 1, result, list(kernel), list(stride), padding)
    board.run(0, 1)
    assert torch.equal(result, pool(x))

    changed = torch.rand(2, 1, 9, 11) < 0.05
    x.copy_(torch.where(changed, float('nan'), x))
    board.mark(0, MAPPED, changed)
    before = result.clone()
    board.run(0, 1)
    assert torch.equal(result.isnan(), pool(x).isnan())
    if changed.any():
        there = board.map(1)
        assert torch.equal(there, pool(changed.float()) > 0)
        assert torch.equal(result.isnan().any(1, keepdim=True), there)
    else:
        there = torch.tensor(False)
    assert board.change(1) == (MAPPED if there.any() else NOWHERE)
    still = before.where(~there, 0)
    assert torch.equal(result.where(~there, 0), still)


@pytest.mark.parametrize('channels', [1, 16, 71])
def test_a_mean_is_of_what_is_there_now(channels):
    x = image(2, channels, 9, 11)
    result = image(2, channels, 1, 1)
    board = native.new_board(2)
    board.put(0, x)
    board.add_mean(0, 1, result)
    board.run(0, 1)
    torch.testing.assert_close(result, x.mean((2, 3), keepdim=True))
    assert board.change(1) == ANYWHERE

    before = result.clone()
    changed = torch.zeros(2, 1, 9, 11, dtype=torch.bool)
    changed[0, 0, 3, 4:6] = changed[0, 0, 8, 10] = True
    x += changed * image(2, channels, 9, 11)
    board.mark(0, MAPPED, changed)
    board.run(0, 1)
    torch.testing.assert_close(result, x.mean((2, 3), keepdim=True))
    assert torch.equal(result[1], before[1])

    board.mark(0, NOWHERE, None)
    board.run(0, 1)
    assert board.change(1) == NOWHERE


@pytest.mark.parametrize('activation', ['relu', 'silu'])
def test_what_is_no_number_stays_so(activation):
    x = image(1, 5, 4, 4)
    x[0, :, 1, 1] = float('nan')
    x[0, :, 2, 2] = float('inf')

    board, result = sum_board(activation, x)
    board.run(0, 1)

    assert torch.equal(result.isnan(), x.isnan())
    assert torch.equal(result.isinf(), x.isinf())


def test_a_sum_is_computed_where_an_image_changed_and_nowhere_else():
    large, small = image(2, 5, 8, 12), image(2, 5, 2, 3)
    board = native.new_board(3)
    board.put(0, large)
    board.put(1, small)
    result = torch.full_like(large, 7.0)
    board.add_sum([0, 1], 2, result, None, None, None)
    board.run(0, 1)
    assert torch.equal(result, large + F.interpolate(small, scale_factor=4))
    before = result.clone()

    large += 1
    small += 1
    changed = torch.zeros(2, 1, 2, 3, dtype=torch.bool)
    changed[1, 0, 1, 2] = True
    board.mark(0, NOWHERE, None)
    board.mark(1, MAPPED, changed)
    board.run(0, 1)

    where = F.interpolate(changed.float(), scale_factor=4).bool()
    assert board.change(2) == MAPPED
    assert torch.equal(board.map(2), where)
    now = large + F.interpolate(small, scale_factor=4)
    assert torch.equal(result, torch.where(where, now, before))

    board.mark(1, NOWHERE, None)
    result.zero_()
    board.run(0, 1)
    assert board.change(2) == NOWHERE
    assert not result.any()


def test_a_join_copies_what_changed_of_any_layout():
    first, second = torch.randn(2, 3, 4, 6), image(2, 2, 4, 6)
    board = native.new_board(3)
    board.put(0, first)
    board.put(1, second)
    result = image(2, 5, 4, 6)
    board.add_join([0, 1], 2, result)
    board.run(0, 1)
    assert board.change(2) == ANYWHERE
    assert torch.equal(result, torch.cat([first, second], 1))

    before = result.clone()
    first += 1
    second += 1
    changed = torch.rand(2, 1, 4, 6) < 0.3
    board.mark(0, NOWHERE, None)
    board.mark(1, MAPPED, changed)
    board.run(0, 1)

    assert torch.equal(board.map(2), changed)
    now = torch.cat([before[:, :3], second], 1)
    assert torch.equal(result, torch.where(changed, now, before))


def test_a_copy_follows_any_layout_and_what_is_no_number():
    x, copy = torch.randn(2, 5, 4, 6), image(2, 5, 4, 6)
    copy.copy_(x)
    board = native.new_board(2)
    board.add_follow(0, 1, copy)

    for y in (x.clone(), x.flip(3), x.transpose(2, 3).reshape(2, 5, 4, 6)):
        before = copy.clone()
        board.put(0, y)
        board.run(0, 1)

        assert torch.equal(copy, y)
        where = (before != y).any(1, keepdim=True)
        assert board.change(1) == (MAPPED if where.any() else NOWHERE)
        assert torch.equal(board.map(1), where)

    y[1, 2, 3, 4] = float('nan')
    for _ in range(2):
        board.run(0, 1)
        assert board.map(1).nonzero().tolist() == [[1, 0, 3, 4]]


def test_a_watched_tensor_that_is_written_to_or_replaced_is_noticed():
    weights = [torch.nn.Parameter(torch.zeros(3)) for _ in range(3)]
    for spoil in (
        lambda w: w.detach().add_(1),
        lambda w: setattr(w, 'data', torch.ones(3)),
    ):
        board = native.new_board(0)
        for weight in weights:
            board.watch(weight)
        assert board.holds()
        spoil(weights[1])
        assert not board.holds()

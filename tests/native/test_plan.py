"""What a plan keeps between frames."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmskip.native import ConvGeometry, activate_
from mmskip.native import library as native
from mmskip.skip_conv import (
    MEMORY_RULES,
    GateParams,
    SkipParams,
    native_call,
    skip_conv,
)
from mmskip.skip_conv.native_layer import LayerCache
from tests.helpers.any_layer import gated_layers, make_frames

pytestmark = pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)

NOWHERE, MAPPED, ANYWHERE = range(3)


def image(*shape):
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


def sum_plan(activation=None, *images, scale=None, shift=None):
    """A plan with a sum of images, and its result."""
    plan = native.new_plan(len(images) + 1)
    for index, x in enumerate(images):
        plan.put(index, x)
    result = torch.empty_like(images[0])
    sources, target = list(range(len(images))), len(images)
    plan.add_sum(sources, target, result, scale, shift, activation)
    return plan, result


def make_calls(params, first):
    """A call site after its reference frame, and again with an activation."""
    plain, layers = params._replace(activation=None), LayerCache()
    memory = skip_conv(first, None, plain, layers)[2]
    memories = memory.clone(), memory.clone()
    return [
        (native_call(memory, one, LayerCache()), memory)
        for one, memory in zip((plain, params), memories, strict=True)
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
def test_a_convolution_computes_what_it_does_without_a_plan(
    gated_layer, rule, batch, share, drift, with_bias, activation, seed
):
    torch.manual_seed(seed)
    (_, _, channels, size), _ = gated_layer
    frames = make_frames(4, batch, channels, size, share)
    # Still frames, what drifts at a few places, what comes back.
    there = torch.rand(batch, 1, *size) < share
    drifts = [
        frames[-1] + drift * n * there * torch.randn_like(frames[-1])
        for n in range(4)
    ]
    frames += [frames[-1], *drifts, drifts[-1], drifts[-1], frames[2]]
    (geometry, shape, *_), gate = gated_layer
    weight = torch.randn(shape) / torch.Size(shape[1:]).numel() ** 0.5
    bias = torch.randn(shape[0]) if with_bias else None
    params = SkipParams(weight, bias, geometry, gate, rule, activation)
    (call, single), (other, memory) = make_calls(params, frames[0])
    plan, x = native.new_plan(3), torch.empty(0)
    copy = frames[0].contiguous(memory_format=torch.channels_last).clone()
    output = memory.output
    mask = torch.zeros_like(output[:, :1], dtype=torch.bool).contiguous()
    plan.add_follow(0, 1, copy)
    result = activated(output, activation) if activation else None
    plan.add_conv(1, 2, other.site, mask, result)

    for x in frames[1:]:
        expected, expected_mask = call.run(x)
        plan.put(0, x)
        plan.run(0, 2)

        assert torch.equal(copy, x)
        assert torch.equal(mask, expected_mask)
        assert torch.equal(output, expected)
        if activation:
            assert torch.equal(result, activated(expected, activation))
        assert torch.equal(memory.input, single.input)
        assert plan.change(2) == (MAPPED if mask.any() else NOWHERE)


@pytest.mark.parametrize('activation', [None, 'relu', 'silu'])
@pytest.mark.parametrize('mode', [torch.no_grad, torch.inference_mode])
def test_a_video_begins_with_the_dense_convolution(mode, activation):
    weight, bias = torch.randn(8, 4, 3, 3), torch.randn(8)
    geometry = ConvGeometry((1, 1), ((0, 1), (1, 1)), (1, 1))
    gate = GateParams('output_norm', 0.1, relative=True)
    params = SkipParams(weight, bias, geometry, gate, activation=activation)
    first, other = image(2, 4, 6, 7), torch.randn(2, 4, 6, 7)
    with mode():
        ((_, _), (call, memory)) = make_calls(params, first)
        result = torch.empty_like(memory.output) if activation else None
        mask = torch.zeros(2, 1, 5, 7, dtype=torch.bool)
        plan = native.new_plan(2)
        plan.put(0, other)
        plan.add_conv(0, 1, call.site, mask, result)
        plan.begin(0, 1)

        fresh = skip_conv(other, None, params, LayerCache())[2]
    assert torch.equal(memory.input, other)
    assert torch.equal(memory.output, fresh.output)
    assert torch.equal(memory.scale, fresh.scale)
    assert mask.all()
    assert plan.change(1) == ANYWHERE
    if activation:
        assert torch.equal(result, activated(memory.output, activation))


def test_what_is_pending_around_an_output_fires_again_at_rest():
    # Four pending inputs in a diamond: each of the outputs that read the one
    # in the middle fires, so that it is transmitted, time and again; none of
    # them is.
    weight = torch.randn(4, 1, 3, 3)
    from_zero = torch.zeros(1, 1, 12, 12)
    geometry = ConvGeometry((1, 1), ((1, 1), (1, 1)), (1, 1))
    gate = GateParams('input_norm', 1.0)
    params = SkipParams(weight, None, geometry, gate, 'accumulated')
    with torch.no_grad():
        ((call, _), _) = make_calls(params, from_zero)
    plan = native.new_plan(2)
    mask = torch.zeros(1, 1, 12, 12, dtype=torch.bool)
    plan.add_conv(0, 1, call.site, mask, None)
    x = from_zero.clone()
    for h, w in ((5, 6), (7, 6), (6, 5), (6, 7)):
        x[..., h, w] = 0.6 * 9
    plan.put(0, x)

    plan.mark(0, ANYWHERE, None)
    for _ in range(3):
        plan.run(0, 1)
        assert mask.sum() == 9
        plan.mark(0, NOWHERE, None)


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

    plan, result = sum_plan(activation, x)
    plan.run(0, 1)

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

    plan, result = sum_plan(activation, *images, scale=scale, shift=shift)
    plan.run(0, 1)

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
    plan = native.new_plan(2)
    plan.put(0, x)
    plan.add_pool(0, 1, result, list(kernel), list(stride), padding)
    plan.run(0, 1)
    assert torch.equal(result, pool(x))

    changed = torch.rand(2, 1, 9, 11) < 0.05
    x.copy_(torch.where(changed, float('nan'), x))
    plan.mark(0, MAPPED, changed)
    before = result.clone()
    plan.run(0, 1)
    assert torch.equal(result.isnan(), pool(x).isnan())
    if changed.any():
        there = plan.map(1)
        assert torch.equal(there, pool(changed.float()) > 0)
        assert torch.equal(result.isnan().any(1, keepdim=True), there)
    else:
        there = torch.tensor(False)
    assert plan.change(1) == (MAPPED if there.any() else NOWHERE)
    still = before.where(~there, 0)
    assert torch.equal(result.where(~there, 0), still)


@pytest.mark.parametrize('channels', [1, 16, 71])
def test_a_mean_is_of_what_is_there_now(channels):
    x = image(2, channels, 9, 11)
    result = image(2, channels, 1, 1)
    plan = native.new_plan(2)
    plan.put(0, x)
    plan.add_mean(0, 1, result)
    plan.run(0, 1)
    torch.testing.assert_close(result, x.mean((2, 3), keepdim=True))
    assert plan.change(1) == ANYWHERE

    before = result.clone()
    changed = torch.zeros(2, 1, 9, 11, dtype=torch.bool)
    changed[0, 0, 3, 4:6] = changed[0, 0, 8, 10] = True
    x += changed * image(2, channels, 9, 11)
    plan.mark(0, MAPPED, changed)
    plan.run(0, 1)
    torch.testing.assert_close(result, x.mean((2, 3), keepdim=True))
    assert torch.equal(result[1], before[1])

    plan.mark(0, NOWHERE, None)
    plan.run(0, 1)
    assert plan.change(1) == NOWHERE


@pytest.mark.parametrize('activation', ['relu', 'silu'])
def test_what_is_no_number_stays_so(activation):
    x = image(1, 5, 4, 4)
    x[0, :, 1, 1] = float('nan')
    x[0, :, 2, 2] = float('inf')

    plan, result = sum_plan(activation, x)
    plan.run(0, 1)

    assert torch.equal(result.isnan(), x.isnan())
    assert torch.equal(result.isinf(), x.isinf())


def test_a_sum_is_computed_where_an_image_changed_and_nowhere_else():
    large, small = image(2, 5, 8, 12), image(2, 5, 2, 3)
    plan = native.new_plan(3)
    plan.put(0, large)
    plan.put(1, small)
    result = torch.full_like(large, 7.0)
    plan.add_sum([0, 1], 2, result, None, None, None)
    plan.run(0, 1)
    assert torch.equal(result, large + F.interpolate(small, scale_factor=4))
    before = result.clone()

    large += 1
    small += 1
    changed = torch.zeros(2, 1, 2, 3, dtype=torch.bool)
    changed[1, 0, 1, 2] = True
    plan.mark(0, NOWHERE, None)
    plan.mark(1, MAPPED, changed)
    plan.run(0, 1)

    where = F.interpolate(changed.float(), scale_factor=4).bool()
    assert plan.change(2) == MAPPED
    assert torch.equal(plan.map(2), where)
    now = large + F.interpolate(small, scale_factor=4)
    assert torch.equal(result, torch.where(where, now, before))

    plan.mark(1, NOWHERE, None)
    result.zero_()
    plan.run(0, 1)
    assert plan.change(2) == NOWHERE
    assert not result.any()


def test_a_join_copies_what_changed_of_any_layout():
    first, second = torch.randn(2, 3, 4, 6), image(2, 2, 4, 6)
    plan = native.new_plan(3)
    plan.put(0, first)
    plan.put(1, second)
    result = image(2, 5, 4, 6)
    plan.add_join([0, 1], 2, result)
    plan.run(0, 1)
    assert plan.change(2) == ANYWHERE
    assert torch.equal(result, torch.cat([first, second], 1))

    before = result.clone()
    first += 1
    second += 1
    changed = torch.rand(2, 1, 4, 6) < 0.3
    plan.mark(0, NOWHERE, None)
    plan.mark(1, MAPPED, changed)
    plan.run(0, 1)

    assert torch.equal(plan.map(2), changed)
    now = torch.cat([before[:, :3], second], 1)
    assert torch.equal(result, torch.where(changed, now, before))


def test_a_copy_follows_any_layout_and_what_is_no_number():
    x, copy = torch.randn(2, 5, 4, 6), image(2, 5, 4, 6)
    copy.copy_(x)
    plan = native.new_plan(2)
    plan.add_follow(0, 1, copy)

    for y in (x.clone(), x.flip(3), x.transpose(2, 3).reshape(2, 5, 4, 6)):
        before = copy.clone()
        plan.put(0, y)
        plan.run(0, 1)

        assert torch.equal(copy, y)
        where = (before != y).any(1, keepdim=True)
        assert plan.change(1) == (MAPPED if where.any() else NOWHERE)
        assert torch.equal(plan.map(1), where)

    y[1, 2, 3, 4] = float('nan')
    for _ in range(2):
        plan.run(0, 1)
        assert plan.map(1).nonzero().tolist() == [[1, 0, 3, 4]]


def test_a_watched_tensor_that_is_written_to_or_replaced_is_noticed():
    weights = [torch.nn.Parameter(torch.zeros(3)) for _ in range(3)]
    for spoil in (
        lambda w: w.detach().add_(1),
        lambda w: setattr(w, 'data', torch.ones(3)),
    ):
        plan = native.new_plan(0)
        for weight in weights:
            plan.watch(weight)
        assert plan.holds()
        spoil(weights[1])
        assert not plan.holds()


def test_a_crop_is_a_view_and_its_changes_are_cropped():
    x = image(1, 3, 6, 8)
    plan = native.new_plan(2)
    plan.put(0, x)
    plan.add_crop(0, 1, [1, 6, 2], [0, 8, 2])
    changed = torch.zeros(1, 1, 6, 8, dtype=torch.bool)

    for place, expected in (((3, 4), (1, 2)), ((2, 4), None)):
        changed.zero_()
        changed[0, 0][place] = True
        plan.mark(0, 1, changed)
        plan.run(0, 1)
        assert plan.change(1) == (0 if expected is None else 1)
        if expected is not None:
            (found,) = plan.map(1).nonzero().tolist()
            assert tuple(found[2:]) == expected
    for change in (0, 2):
        plan.mark(0, change, None)
        plan.run(0, 1)
        assert plan.change(1) == change


@pytest.mark.parametrize('begin', [0, 1])
@pytest.mark.parametrize('step', [1, 2, 3])
def test_maps_of_crops_are_those_of_their_places(begin, step):
    plan = native.new_plan(2)
    plan.put(0, image(2, 3, 11, 37))
    rows, columns = [begin, 11, step], [begin, 37, step]
    plan.add_crop(0, 1, rows, columns)
    changed = torch.rand(2, 1, 11, 37) < 0.3
    changed[0, 0, :7] = False

    plan.mark(0, MAPPED, changed)
    plan.run(0, 1)

    expected = changed[:, :, begin::step, begin::step]
    assert torch.equal(plan.map(1), expected)


def test_crops_without_rows_or_steps_are_refused():
    plan = native.new_plan(2)
    plan.put(0, image(1, 3, 6, 8))
    for rows in ([2, 2, 1], [0, 6, 0], [0, 6]):
        with pytest.raises(ValueError, match='begin, end and step'):
            plan.add_crop(0, 1, rows, [0, 8, 1])


@pytest.fixture
def four_threads():
    number = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(number)


@pytest.mark.usefixtures('four_threads')
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 10**6), steps=st.integers(1, 40))
def test_steps_in_threads_come_to_what_they_do_one_by_one(seed, steps):
    generator = torch.Generator().manual_seed(seed)

    def draw(end):
        return int(torch.randint(end, (1,), generator=generator))

    values = [image(1, 8, 6, 5) for _ in range(3)]
    plan = native.new_plan(3 + steps)
    for index, x in enumerate(values):
        plan.put(index, x)
    for target in range(3, 3 + steps):
        sources = [draw(target) for _ in range(1 + draw(3))]
        result = torch.empty_like(values[0])
        plan.add_sum(sources, target, result, None, None, 'relu')
        values.append(result)
    plan.run(0, steps)
    found = [x.clone() for x in values]
    for x in values[3:]:
        x.fill_(7.0)

    # What came before has changed anywhere.
    for index in range(3):
        plan.mark(index, ANYWHERE, None)
    for step in range(steps):
        plan.run(step, step + 1)

    assert all(map(torch.equal, values, found))


@pytest.mark.usefixtures('four_threads')
def test_what_goes_wrong_in_a_thread_is_told():
    images = [image(1, 8, 6, 5) for _ in range(3)]
    plan = native.new_plan(7)
    for index, x in enumerate(images):
        plan.put(index, x)
        plan.add_follow(index, 3 + index, torch.empty_like(x))
    result = torch.empty_like(images[0])
    plan.add_sum([3, 4, 5], 6, result, None, None, None)
    plan.put(1, image(1, 8, 5, 5))
    with pytest.raises(ValueError, match='expected an image of shape'):
        plan.run(0, 4)

    plan.put(1, images[1])
    plan.run(0, 4)
    torch.testing.assert_close(result, sum(images))

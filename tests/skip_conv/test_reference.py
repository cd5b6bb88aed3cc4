"""One frame of a Skip-Convolution."""

import pytest
import torch

from mmskip.native import ConvGeometry, convolve
from mmskip.skip_conv import (
    MEMORY_RULES,
    GateParams,
    SkipParams,
    block_mask,
    gate_mask,
    skip_conv,
)
from tests.helpers.convs import make_video, whole_numbers

SAME_3X3 = ConvGeometry((1, 1), ((1, 1), (1, 1)), (1, 1))
POINTWISE = ConvGeometry((1, 1), ((0, 0), (0, 0)), (1, 1))
GEOMETRIES = {
    'plain': SAME_3X3,
    'stride': SAME_3X3._replace(stride=(2, 3)),
    'dilation': SAME_3X3._replace(dilation=(2, 1), padding=((2, 2), (1, 1))),
    'no-padding': SAME_3X3._replace(padding=((0, 0), (0, 0))),
    'reflect': SAME_3X3._replace(padding_mode='reflect'),
    'circular': SAME_3X3._replace(padding_mode='circular'),
    'uneven': SAME_3X3._replace(padding=((0, 1), (2, 0)), stride=(2, 1)),
}
ALWAYS, NEVER = GateParams('input_norm', -1), GateParams('input_norm', 1e9)
RULES = pytest.mark.parametrize('rule', MEMORY_RULES)
ALL_GEOMETRIES = pytest.mark.parametrize(
    'geometry', GEOMETRIES.values(), ids=GEOMETRIES
)


def run(video, weight, bias, geometry, gate, rule):
    """Outputs, masks and memories of all frames."""
    params = SkipParams(weight, bias, geometry, gate, rule)
    memory, steps = None, []
    for x in video:
        output, mask, memory = skip_conv(x, memory, params)
        steps.append((output, mask, memory))
    return zip(*steps, strict=True)


@RULES
def test_the_first_frame_is_computed_densely(rule):
    x, weight, bias = (
        whole_numbers(2, 3, 6, 7),
        whole_numbers(4, 3, 3, 3),
        whole_numbers(4),
    )

    params = SkipParams(weight, bias, SAME_3X3, NEVER, rule)
    output, mask, _ = skip_conv(x, None, params)

    assert torch.equal(output, convolve(x, weight, bias, SAME_3X3))
    assert mask.shape == (2, 1, 6, 7)
    assert mask.all()


@RULES
@pytest.mark.parametrize('gate', [ALWAYS, NEVER], ids=['open', 'closed'])
def test_bias_enters_once_however_long_the_video(rule, gate):
    x, weight, bias = (
        whole_numbers(1, 2, 6, 6),
        whole_numbers(3, 2, 3, 3),
        torch.full((3,), 7.0),
    )

    outputs, _, _ = run([x] * 5, weight, bias, SAME_3X3, gate, rule)

    dense = convolve(x, weight, bias, SAME_3X3)
    assert all(torch.equal(output, dense) for output in outputs)


@ALL_GEOMETRIES
def test_previous_memory_follows_equation_3(geometry):
    video = make_video(4, 2, 4, 9, 10)
    weight, bias = whole_numbers(3, 4, 3, 3), whole_numbers(3)
    gate = GateParams('input_norm', 0.6)

    outputs, masks, _ = run(video, weight, bias, geometry, gate, 'previous')

    expected = convolve(video[0], weight, bias, geometry)
    for t in range(1, 4):
        residual = video[t] - video[t - 1]
        g = gate_mask(residual, torch.ones(()), (3, 3), geometry, gate)
        expected = expected + g * convolve(residual, weight, None, geometry)
        assert 0 < g.sum() < g.numel()
        assert torch.equal(masks[t], g)
        assert torch.equal(outputs[t], expected)


@ALL_GEOMETRIES
@pytest.mark.parametrize('block', [1, 4])
def test_accumulated_output_is_the_convolution_of_what_was_sent(
    geometry, block
):
    video = make_video(6, 2, 4, 9, 10, share=0.1)
    weight, bias = whole_numbers(3, 4, 3, 3), whole_numbers(3)
    gate = GateParams('input_norm', 0.2, block_size=block)

    outputs, masks, memories = run(
        video, weight, bias, geometry, gate, 'accumulated'
    )

    assert any(0 < mask.sum() < mask.numel() for mask in masks)
    for t in range(6):
        sent = memories[t].input
        assert torch.equal(outputs[t], convolve(sent, weight, bias, geometry))
        # Each position holds what some frame so far had there.
        seen = torch.stack(video[: t + 1])
        assert (seen == sent).all(2).any(0).all()


@ALL_GEOMETRIES
@pytest.mark.parametrize('block', [1, 2, 8])
def test_accumulated_memory_computes_nothing_that_the_gate_left_out(
    geometry, block
):
    video = make_video(6, 1, 4, 9, 10, share=0.1)
    weight = whole_numbers(3, 4, 3, 3)
    gate = GateParams('input_norm', 0.2, block_size=block)

    _, masks, memories = run(
        video, weight, None, geometry, gate, 'accumulated'
    )

    computed = 0
    for t in range(1, 6):
        residual = video[t] - memories[t - 1].input
        chosen = gate_mask(residual, torch.ones(()), (3, 3), geometry, gate)
        assert not (masks[t] & ~chosen).any()
        computed += masks[t].sum()
    assert computed > 0


@RULES
@ALL_GEOMETRIES
@pytest.mark.parametrize('block', [2, 4])
def test_whole_blocks_are_computed(rule, geometry, block):
    video = make_video(6, 2, 4, 9, 10, share=0.05)
    gate = GateParams('input_norm', 0.2, block_size=block)

    _, masks, _ = run(
        video, whole_numbers(3, 4, 3, 3), None, geometry, gate, rule
    )

    assert all(torch.equal(block_mask(mask, block), mask) for mask in masks)
    assert any(0 < mask.sum() < mask.numel() for mask in masks)


@RULES
@ALL_GEOMETRIES
def test_threshold_0_loses_nothing(rule, geometry):
    video = make_video(5, 1, 4, 9, 10, share=0.05)
    weight, bias = whole_numbers(3, 4, 3, 3), whole_numbers(3)
    gate = GateParams('output_norm', 0)

    outputs, masks, _ = run(video, weight, bias, geometry, gate, rule)

    for x, output in zip(video, outputs, strict=True):
        assert torch.equal(output, convolve(x, weight, bias, geometry))
    assert any(not mask.all() for mask in masks)


def slow_ramp(frames, step):
    return [torch.full((1, 1, 4, 4), t * step) for t in range(frames)]


def test_slow_change_adds_up_until_it_fires_in_accumulated_memory():
    video, weight = slow_ramp(101, 1 / 64), torch.ones(1, 1, 1, 1)
    gate = GateParams('input_norm', 0.25)

    outputs, masks, _ = run(
        video, weight, None, POINTWISE, gate, 'accumulated'
    )

    errors = [(o - x).abs().max() for o, x in zip(outputs, video, strict=True)]
    assert max(errors) <= 0.25
    # 17 steps of 1/64 are the first to exceed 1/4.
    assert [t for t, mask in enumerate(masks) if mask.any()] == [
        0, 17, 34, 51, 68, 85,
    ]  # fmt: skip


def test_slow_change_is_forgotten_by_the_memory_of_the_paper():
    video, weight = slow_ramp(101, 1 / 64), torch.ones(1, 1, 1, 1)
    gate = GateParams('input_norm', 0.25)

    outputs, masks, _ = run(video, weight, None, POINTWISE, gate, 'previous')

    assert not any(mask.any() for mask in masks[1:])
    assert torch.equal(outputs[-1], video[0])


@RULES
def test_memory_is_never_aliased(rule):
    video = make_video(4, 1, 2, 6, 6)
    weight, bias = whole_numbers(3, 2, 3, 3), whole_numbers(3)
    gate = GateParams('input_norm', 0.3)
    undisturbed, _, _ = run(video, weight, bias, SAME_3X3, gate, rule)

    memory = None
    for frame, expected in zip(video, undisturbed, strict=True):
        x = frame.clone()
        params = SkipParams(weight, bias, SAME_3X3, gate, rule)
        output, _, memory = skip_conv(x, memory, params)
        assert torch.equal(output, expected)
        output.relu_().add_(100)
        x.zero_()


@RULES
def test_a_nan_is_computed_and_not_hidden(rule):
    still = torch.zeros(1, 1, 5, 5)
    broken = still.clone()
    broken[0, 0, 2, 2] = float('nan')

    outputs, masks, _ = run(
        [still, broken], torch.ones(1, 1, 3, 3), None, SAME_3X3, NEVER, rule
    )

    assert torch.equal(outputs[1].isnan(), masks[1])
    assert masks[1].sum() == 9


@RULES
def test_streams_in_a_batch_do_not_touch_each_other(rule):
    both = make_video(4, 2, 2, 7, 7)
    weight, bias = whole_numbers(3, 2, 3, 3), whole_numbers(3)
    gate = GateParams('output_norm', 2.5)

    outputs, masks, _ = run(both, weight, bias, SAME_3X3, gate, rule)

    for stream in range(2):
        alone = [x[stream : stream + 1] for x in both]
        alone_outputs, alone_masks, _ = run(
            alone, weight, bias, SAME_3X3, gate, rule
        )
        assert torch.equal(torch.stack(outputs)[:, [stream]],
                           torch.stack(alone_outputs))  # fmt: skip
        assert torch.equal(torch.stack(masks)[:, [stream]],
                           torch.stack(alone_masks))  # fmt: skip


@RULES
def test_an_empty_batch_is_a_frame_like_any_other(rule):
    x, weight = torch.zeros(0, 2, 6, 6), whole_numbers(3, 2, 3, 3)

    outputs, masks, _ = run([x, x], weight, None, SAME_3X3, NEVER, rule)

    assert outputs[1].shape == (0, 3, 6, 6)
    assert masks[1].shape == (0, 1, 6, 6)


@RULES
def test_gradients_reach_the_weights_through_all_frames(rule):
    video = make_video(3, 1, 2, 6, 6)
    weight = whole_numbers(3, 2, 3, 3).requires_grad_()

    outputs, _, _ = run(video, weight, None, SAME_3X3, ALWAYS, rule)
    (gradient,) = torch.autograd.grad(outputs[-1].sum(), weight)

    dense = convolve(video[-1], weight, None, SAME_3X3).sum()
    assert torch.equal(gradient, torch.autograd.grad(dense, weight)[0])


def test_a_relative_gate_does_not_care_how_weights_and_frames_are_scaled():
    video = make_video(4, 1, 2, 6, 6)
    weight = torch.randn(3, 2, 3, 3)
    gate = GateParams('output_norm', 0.7, relative=True)

    plain = run(video, weight, None, SAME_3X3, gate, 'previous')
    scaled = run(
        [8 * x for x in video], 0.25 * weight, None, SAME_3X3, gate, 'previous'
    )

    masks = [torch.stack(masks) for _, masks, _ in (plain, scaled)]
    assert torch.equal(*masks)
    assert 0 < masks[0][1:].float().mean() < 1


def test_streams_of_one_batch_have_a_relative_gate_each():
    quiet, loud = make_video(6, 1, 2, 6, 6), make_video(6, 1, 2, 6, 6)
    # Its lights go on when nothing happens in the other.
    loud = [x if t < 3 else 20 * x for t, x in enumerate(loud)]
    both = [torch.cat(pair) for pair in zip(quiet, loud, strict=True)]
    weight = torch.randn(3, 2, 3, 3)
    gate = GateParams('output_norm', 0.7, relative=True)

    _, together, _ = run(both, weight, None, SAME_3X3, gate, 'accumulated')

    for row, video in enumerate((quiet, loud)):
        _, alone, _ = run(video, weight, None, SAME_3X3, gate, 'accumulated')
        mine = torch.stack(together)[:, row : row + 1]
        assert torch.equal(mine, torch.stack(alone))


BLACK, WHITE = torch.zeros(1, 2, 16, 16), torch.full((1, 2, 16, 16), 255.0)
BAD_FRAMES = {
    'black': BLACK,
    'white': WHITE,
    'test card': torch.where(torch.rand_like(BLACK) < 0.5, BLACK, WHITE),
}


def noisy(number, gain=1.0, noise=0.5):
    """A scene with a sensor's noise in every pixel."""
    torch.manual_seed(1)
    scene = 100 + 20 * torch.randn(1, 2, 16, 16)
    return [
        gain * (scene + noise * torch.randn_like(scene)) for _ in range(number)
    ]


def stream_of(video, rule, threshold=0.2, kind='output_norm'):
    """Masks and memories of a relative gate."""
    torch.manual_seed(0)
    weight = torch.randn(4, 2, 3, 3)
    gate = GateParams(kind, threshold, order=2, relative=True)
    _, *steps = run(video, weight, torch.randn(4), SAME_3X3, gate, rule)
    return steps


@RULES
@pytest.mark.parametrize('kind', ['input_norm', 'output_norm'])
@pytest.mark.parametrize('bad', BAD_FRAMES)
def test_a_bad_first_frame_is_forgotten(bad, kind, rule):
    video = noisy(6)

    masks, memories = stream_of([BAD_FRAMES[bad], *video], rule, kind=kind)
    expected, fresh = stream_of(video, rule, kind=kind)

    # The first good frame is computed, and is as good as a reference frame.
    assert masks[1].all()
    assert torch.allclose(memories[1].scale, fresh[0].scale)
    assert torch.equal(torch.stack(masks[2:]), torch.stack(expected[1:]))
    assert not torch.stack(expected[1:]).any()


def test_a_frame_of_nans_is_forgotten():
    video = noisy(4)
    masks, memories = stream_of([BLACK * torch.nan, *video], 'accumulated')

    _, fresh = stream_of(video, 'accumulated')

    assert torch.allclose(memories[1].scale, fresh[0].scale)
    assert not torch.stack(masks[2:]).any()


@RULES
def test_night_and_day_have_levels_of_their_own(rule):
    day, night = noisy(3), noisy(3, gain=1 / 16)

    masks, memories = stream_of([*day, *night, *day], rule)

    scales = [memory.scale.item() for memory in memories]
    # The paper's memory has not followed the noise of the day, and keeps it.
    assert scales[3] == pytest.approx(16 * scales[0], rel=0.2)
    assert scales[6] == pytest.approx(scales[0], rel=0.01)
    fired = [mask.float().mean().item() for mask in masks]
    assert fired[3] == fired[6] == 1
    assert fired[1:3] == fired[4:6] == fired[7:9] == [0, 0]


def test_dusk_ends_in_the_level_of_the_night():
    (scene,) = noisy(1)
    fade = [scene * 0.97**t for t in range(150)]

    _, memories = stream_of(fade, 'accumulated', threshold=0.1)

    night = stream_of([fade[-1]], 'accumulated')[1][0]
    assert memories[-1].scale.item() > 0.5 * night.scale.item()


@RULES
def test_a_level_stays_until_half_of_a_frame_was_computed(rule):
    (scene,) = noisy(1)
    video = [scene]
    for row in range(4):
        video.append(video[-1].clone())
        video[-1][..., 4 * row : 4 * row + 4, :] *= -1

    masks, memories = stream_of(video, rule, threshold=1e-3)

    computed = 0
    later = masks[1:], memories[1:]
    for before, mask, after in zip(memories[:-1], *later, strict=True):
        computed += int(mask.sum())
        if 2 * computed >= mask.numel():
            computed = 0
            assert not torch.equal(after.scale, before.scale)
        else:
            assert torch.equal(after.scale, before.scale)
        assert after.computed.tolist() == [computed]
    assert 0 < int(masks[1].sum()) < mask.numel() / 2

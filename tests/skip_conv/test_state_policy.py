import copy

import pytest
import torch
from torch import nn

import mmskip
from mmskip.reading import InputError
from mmskip.skip_conv import StreamPolicy, streams

SIZE = 128


def make_model(threshold=0.01):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)
    ).eval()
    gate = dict(
        type='mmskip.OutputNormGate', threshold=threshold, relative=True
    )
    mmskip.convert(model, mmskip.SkipConversion(gate, memory='accumulated'))
    return model


def scene(seed):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 8, 8, generator=generator)
    return nn.functional.interpolate(coarse, size=SIZE) * 255


def with_object(picture, x):
    picture = picture.clone()
    picture[..., 40:68, x : x + 28] = 255
    return picture


def watch(model, frames, policy):
    """Run a stream; returns the reason of each frame, and the outputs."""
    state = mmskip.StreamState(policy)
    reasons, outputs = [], []
    with torch.no_grad(), mmskip.stream(model, state):
        for frame in frames:
            outputs.append(model(frame))
            reasons.append(state.restart)
    return reasons, outputs, state


def dense(model, frame):
    with torch.no_grad():
        return model(frame)


def test_an_object_that_moves_is_no_cut():
    room = scene(0)
    frames = [with_object(room, x) for x in range(0, 48, 4)]
    reasons, _, state = watch(make_model(), frames, StreamPolicy())
    assert reasons == ['first'] + [None] * 11
    assert state.restarts == {'first': 1}
    assert state.frames == 12


@pytest.mark.parametrize(
    'other',
    [
        scene(1),
        scene(0) * 0.3,
        (scene(0) + 60).clamp(max=255),
        torch.zeros(1, 3, SIZE, SIZE),
        scene(0).roll((22, 34), (2, 3)),
    ],
    ids=['cut', 'lights', 'gain', 'black', 'bump'],
)
def test_a_picture_that_changed_altogether_is_a_reference_frame(other):
    model = make_model()
    frames = [scene(0), scene(0), other, other]
    reasons, outputs, state = watch(model, frames, StreamPolicy())
    assert reasons == ['first', None, 'cut', None]
    assert state.restarts == {'first': 1, 'cut': 1}
    torch.testing.assert_close(
        outputs[2], dense(model, other), rtol=1e-4, atol=1e-4
    )


def test_a_shift_of_exposure_on_an_even_picture_is_no_cut():
    road = 60 + 0.05 * scene(0)
    road[..., 10:14, 10:14] = 250
    frames = [road, road + 4, road + 8]
    reasons, *_ = watch(make_model(), frames, StreamPolicy(busy_share=None))
    assert reasons == ['first', None, None]


def test_the_borders_of_a_letterbox_do_not_hide_a_cut():
    frames = [scene(0), scene(0), scene(1)]
    for frame in frames:
        frame[..., 40:, :] = 114
    reasons, *_ = watch(make_model(), frames, StreamPolicy())
    assert reasons == ['first', None, 'cut']


def test_without_a_policy_a_stream_never_restarts():
    frames = [scene(0), scene(1), scene(2)]
    reasons, _, state = watch(make_model(), frames, None)
    assert reasons == [None] * 3
    assert state.frames == 3
    assert not state.restarts


def test_noise_alone_is_no_cut():
    torch.manual_seed(0)
    frames = [
        (scene(0) + 20 * torch.randn(1, 3, SIZE, SIZE)).clamp(0, 255)
        for _ in range(4)
    ]
    policy = StreamPolicy(busy_share=None)
    assert watch(make_model(), frames, policy)[0] == ['first', *[None] * 3]


def test_a_stream_restarts_at_an_interval():
    policy = StreamPolicy(reset_interval=3)
    reasons, _, state = watch(make_model(), [scene(0)] * 8, policy)
    later = [None, None, 'interval']
    assert reasons == ['first', *later, *later, None]
    assert state.restarts['interval'] == 2


def noisy(count, strength=60):
    torch.manual_seed(0)
    return [
        scene(0) + strength * torch.randn(1, 3, SIZE, SIZE)
        for _ in range(count)
    ]


def test_a_camera_that_changes_all_the_time_is_computed_densely():
    model = make_model()
    policy = StreamPolicy(patience=3, look_again=4)
    frames = noisy(14)
    reasons, outputs, state = watch(model, frames, policy)
    calm, busy = [None] * 3, ['busy'] * 4
    # After three costly frames four dense ones, then one to look again.
    assert reasons == ['first', *calm, *busy, None, *busy, None]
    assert state.is_busy
    torch.testing.assert_close(
        outputs[4], dense(model, frames[4]), rtol=1e-4, atol=1e-4
    )


def test_when_it_calms_down_it_skips_again():
    policy = StreamPolicy(patience=3, look_again=4)
    frames = noisy(6) + [noisy(7)[-1]] * 8
    reasons, _, state = watch(make_model(), frames, policy)
    assert reasons[8:] == [None] * 6
    assert not state.is_busy


def test_the_costs_are_the_same_in_a_plan():
    frames = noisy(12)
    policy = StreamPolicy(patience=3, look_again=4)
    plain, planned = make_model(), make_model()
    mmskip.accelerate(planned)
    assert watch(plain, frames, policy)[0] == watch(planned, frames, policy)[0]


def test_a_reference_frame_of_the_policy_costs_what_a_dense_frame_does():
    model = make_model()
    state = mmskip.StreamState(StreamPolicy())
    with (
        torch.no_grad(),
        mmskip.stream(model, state),
        mmskip.count_macs(model) as macs,
    ):
        model(scene(0))
        first = macs.total()
        model(scene(1))
    assert macs.total().spent == 2 * first.spent
    assert macs.total().reference == 2 * first.reference


def test_a_reset_begins_the_counts_anew():
    model = make_model()
    *_, state = watch(model, [scene(0), scene(1)], StreamPolicy())
    state.reset()
    assert not state.restarts
    assert not state.is_busy
    assert state.restart is None


def test_a_region_is_a_share_of_the_picture():
    other = scene(0).clone()
    other[..., :48] = 255 - other[..., :48]
    frames = [scene(0), other]
    whole = watch(make_model(), frames, StreamPolicy())
    part = watch(make_model(), frames, StreamPolicy(area=48 / SIZE))
    assert whole[0] == ['first', None]
    assert part[0] == ['first', 'cut']


def test_copies_of_a_state_decide_for_themselves():
    model = make_model()
    *_, state = watch(model, [scene(0), scene(0)], StreamPolicy())
    twin = copy.deepcopy(state)
    with torch.no_grad(), mmskip.stream(model, twin):
        model(scene(1))
    assert twin.restart == 'cut'
    assert state.restart is None


@pytest.mark.parametrize(
    'wrong', [dict(cut_share=0), dict(busy_share=1.5), dict(patience=0)]
)
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        StreamPolicy(**wrong)


def test_streams_that_take_turns_equal_each_alone():
    model = make_model()
    mmskip.accelerate(model)
    videos = [
        [with_object(scene(seed), x) for x in range(0, 24, 4)]
        for seed in range(3)
    ]
    alone = [watch(model, video, None)[1] for video in videos]
    states = [mmskip.StreamState() for _ in videos]
    together = [[] for _ in videos]
    with torch.no_grad(), streams(model) as switch:
        for frames in zip(*videos, strict=True):
            for number, frame in enumerate(frames):
                switch(states[number])
                together[number].append(model(frame))
    for ours, theirs in zip(together, alone, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one, other)


def test_several_frames_at_once_are_refused():
    model = make_model()
    state = mmskip.StreamState(StreamPolicy())
    with (
        torch.no_grad(),
        mmskip.stream(model, state, num_frames=2),
        pytest.raises(InputError, match='batch_size=1'),
    ):
        model(scene(0).repeat(2, 1, 1, 1))


def test_streams_do_not_change_in_the_middle_of_a_frame():
    model = make_model()
    with torch.no_grad(), streams(model) as switch:
        hook = model[1].register_forward_hook(
            lambda *_: switch(mmskip.StreamState())
        )
        with pytest.raises(RuntimeError, match='between two frames'):
            model(scene(0))
        hook.remove()

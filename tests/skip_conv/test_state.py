"""The memory of one video stream."""

import copy
import gc
import pickle

import pytest
import torch
from torch import nn

import mmskip
from mmskip import StreamState
from tests.helpers.convs import make_video
from tests.helpers.nets import PyramidNet, TinyNet, skipping
from tests.helpers.runs import run_stream, same


@pytest.fixture
def net():
    return skipping(TinyNet(), threshold=15.0)


@pytest.fixture
def video():
    return make_video(6, 1, *TinyNet.shape, share=0.03)


def test_memory_is_kept_per_call_site():
    net, state = skipping(PyramidNet()), StreamState()

    run_stream(net, make_video(3, 1, *PyramidNet.shape), state)

    assert list(state.slots) == [
        ('stem', 0), ('shared', 0), ('shared', 1), ('shared', 2),
    ]  # fmt: skip
    sizes = [tuple(slot.input.shape[2:]) for slot in state.slots.values()]
    assert sizes == [(8, 12), (8, 12), (4, 6), (2, 3)]


def test_memory_does_not_grow_with_the_video(net, video):
    state = StreamState()
    run_stream(net, video[:1], state)
    bytes_of_one_frame = state.nbytes

    run_stream(net, video[1:], state)

    expected = 3 * 256 + 8 * 64 + 8 * 64 + 8 * 64 + 8 * 64 + 4 * 64
    assert state.nbytes == bytes_of_one_frame == 4 * expected
    assert state.frames == 6


def test_the_last_masks_show_what_was_computed(net, video):
    state = StreamState()
    run_stream(net, video[:1], state)
    reference = state.last_masks()
    _, macs = run_stream(net, video[1:2], state)
    masks = state.last_masks()

    assert all(mask.all() for mask in reference.values())
    for (name, _), mask in masks.items():
        per_output = TinyNet.macs[name] // 64
        executed = macs.by_module()[name].executed
        assert mask.dtype == torch.bool
        assert mask.sum() * per_output == executed < TinyNet.macs[name]


def test_a_reset_stream_starts_over(net, video):
    state = StreamState()
    fresh, _ = run_stream(net, video[3:])
    run_stream(net, video[:3], state)

    state.reset()
    again, _ = run_stream(net, video[3:], state)

    assert same(fresh, again)
    assert state.frames == 3


def test_a_stream_may_be_reset_in_the_middle(net, video):
    fresh, _ = run_stream(net, video[3:])

    with mmskip.stream(net) as state, torch.no_grad():
        for x in video[:3]:
            net(x)
        state.reset()
        again = [[net(x)] for x in video[3:]]

    assert same(fresh, again)


def test_a_state_continues_where_its_stream_was_left(net, video):
    whole, _ = run_stream(net, video)
    state = StreamState()

    first, _ = run_stream(net, video[:2], state)
    second, _ = run_stream(net, video[2:], state)

    assert same(whole, first + second)


@pytest.mark.parametrize(
    'duplicate',
    [
        copy.copy,
        copy.deepcopy,
        lambda state: pickle.loads(pickle.dumps(state)),
    ],
    ids=['copy', 'deepcopy', 'pickle'],
)
def test_a_copied_state_continues_alone(net, video, duplicate):
    state = StreamState()
    whole, _ = run_stream(net, video)
    run_stream(net, video[:3], state)

    twin = duplicate(state)
    run_stream(net, video[:3][::-1], state)
    rest, _ = run_stream(net, video[3:], twin)

    assert same(whole[3:], rest)


def test_the_memory_of_another_model_is_refused(net, video):
    state = StreamState()
    run_stream(net, video, state)

    with (
        pytest.raises(ValueError, match="another model's memory"),
        mmskip.stream(copy.deepcopy(net), state),
    ):
        pass


def test_the_memory_of_a_model_that_is_gone_is_refused(video):
    state = StreamState()
    run_stream(skipping(TinyNet()), video, state)
    gc.collect()

    # The new model may lie where the old one lay.
    for _ in range(5):
        with (
            pytest.raises(ValueError, match="another model's memory"),
            mmskip.stream(skipping(TinyNet()), state),
        ):
            pass


def test_memory_made_after_a_reset_belongs_to_its_model(net, video):
    with mmskip.stream(net) as state, torch.no_grad():
        net(video[0])
        state.reset()
        net(video[0])

    with pytest.raises(ValueError, match="another model's memory"):
        state.claim(copy.deepcopy(net))


def test_a_reset_state_is_free_for_another_model(net, video):
    state = StreamState()
    run_stream(net, video, state)
    twin = copy.deepcopy(net)

    state.reset()

    assert same(run_stream(net, video)[0], run_stream(twin, video, state)[0])


def test_a_call_site_whose_shape_changes_becomes_a_reference_frame(net):
    small = make_video(2, 1, 3, 8, 8)
    large = make_video(3, 1, 3, 12, 10)
    state = StreamState()

    run_stream(net, small, state)
    assert state.shape_changes == 0
    outputs, macs = run_stream(net, large, state)

    assert state.shape_changes == 3
    assert same(outputs, run_stream(net, large)[0])
    assert macs.total() == run_stream(net, large)[1].total()


def test_another_dtype_is_a_reference_frame(net, video):
    state = StreamState()
    run_stream(net, video[:2], state)

    outputs, _ = run_stream(net.double(), [video[2].double()], state)

    assert state.weight_changes == 3
    assert same(outputs, [[net(video[2].double())]])


def test_memory_is_no_part_of_the_model(net, video):
    before = set(net.state_dict()), list(net.buffers())

    with mmskip.stream(net), torch.no_grad():
        net(video[0])

        assert (set(net.state_dict()), list(net.buffers())) == before


def test_memory_carries_no_gradient(video):
    net = skipping(TinyNet())

    with mmskip.stream(net) as state:
        net(video[0])
        net(video[1]).sum().backward()

    for slot in state.slots.values():
        assert not any(tensor.requires_grad for tensor in slot[:3])
    assert net.stem.weight.grad.any()


def test_a_state_shows_what_it_holds():
    assert repr(StreamState()) == (
        'StreamState(frames=0, call_sites=0, nbytes=0)'
    )


def test_a_single_convolution_is_a_model_too():
    conv = nn.Conv2d(2, 3, 3)
    mmskip.convert(
        conv, mmskip.SkipConversion(dict(type='InputNormGate', threshold=0))
    )
    state = StreamState()

    run_stream(conv, make_video(2, 1, 2, 5, 5), state)

    assert list(state.slots) == [('', 0)]

"""The contracts of streams and clips."""

import pytest
import torch

import mmskip
from mmskip.skip_conv import MEMORY_RULES
from tests.helpers.convs import make_video
from tests.helpers.nets import NETS, FlipTest, PyramidNet, skipping
from tests.helpers.runs import flat, run_clip, run_dense, run_stream, same

RULES = pytest.mark.parametrize('memory', MEMORY_RULES)
EACH_NET = pytest.mark.parametrize('kind', NETS)
# A threshold at which every net computes some outputs and skips others
# whose input has changed.
PARTLY = 12.0


def partly_skipping(kind, **options):
    net = skipping(NETS[kind](), threshold=PARTLY, **options)
    return net, NETS[kind].shape


def assert_partly(net, video, outputs, macs):
    total = macs.total()
    assert total.reference < total.executed < total.dense
    assert not same(outputs, run_dense(net, video)[0])


@EACH_NET
def test_converted_but_unbound_equals_the_original_bit_for_bit(kind):
    net = NETS[kind]()
    x = torch.randn(2, *NETS[kind].shape)
    original = flat(net(x))

    gate = dict(type='OutputNormGate', threshold=1)
    mmskip.convert(net, mmskip.SkipConversion(gate, linear=True))

    assert same(net(x), original)
    with mmskip.stream(net):
        net(x)
    assert same(net(x), original)


@RULES
@EACH_NET
def test_open_gates_equal_dense_on_every_frame(kind, memory):
    net = skipping(NETS[kind](), threshold=-1, memory=memory)
    video = make_video(4, 2, *NETS[kind].shape)

    outputs, macs = run_stream(net, video)
    dense, _ = run_dense(net, video)

    assert same(outputs, dense)
    assert macs.total().executed == macs.total().dense


@RULES
@EACH_NET
@pytest.mark.parametrize('block', [1, 4])
def test_clip_equals_stream_in_outputs_and_macs(kind, memory, block):
    net, shape = partly_skipping(kind, memory=memory, block=block)
    video = make_video(5, 2, *shape, share=0.03)

    streamed, stream_macs = run_stream(net, video)
    clipped, clip_macs = run_clip(net, video)

    assert same(streamed, clipped)
    assert stream_macs.by_module() == clip_macs.by_module()
    assert stream_macs.frames == clip_macs.frames == 10
    assert_partly(net, video, clipped, clip_macs)


@RULES
@EACH_NET
def test_streams_in_lock_step_equal_each_alone(kind, memory):
    net, shape = partly_skipping(kind, memory=memory)
    videos = [make_video(4, 1, *shape, share=0.1) for _ in range(3)]
    together = [torch.cat(frames) for frames in zip(*videos, strict=True)]

    outputs, macs = run_stream(net, together)
    alone = [run_stream(net, video) for video in videos]

    for b, (expected, _) in enumerate(alone):
        own = [[tensor[b : b + 1] for tensor in frame] for frame in outputs]
        assert same(own, expected)
    total = mmskip.MacCount.sum(one.total() for _, one in alone)
    assert macs.total() == total
    assert_partly(net, together, outputs, macs)


@RULES
@EACH_NET
def test_interleaved_streams_equal_separate_ones(kind, memory):
    net, shape = partly_skipping(kind, memory=memory)
    videos = [make_video(4, 1, *shape) for _ in range(2)]
    separate = [run_stream(net, video)[0] for video in videos]
    states = [mmskip.StreamState(), mmskip.StreamState()]
    outputs = [[], []]

    for frames in zip(*videos, strict=True):
        for camera, x in enumerate(frames):
            outputs[camera] += run_stream(net, [x], states[camera])[0]

    assert same(outputs, separate)


@EACH_NET
@pytest.mark.parametrize('cut', [1, 2, 3])
def test_consecutive_frames_in_a_batch_equal_one_by_one(kind, cut):
    net, shape = partly_skipping(kind)
    video = make_video(6, 2, *shape)
    one_by_one, _ = run_stream(net, video)
    state, outputs = mmskip.StreamState(), []

    for start in range(0, 6, cut):
        batch = torch.stack(video[start : start + cut], 1).flatten(0, 1)
        with mmskip.stream(net, state, num_frames=cut), torch.no_grad():
            parts = [t.unflatten(0, (-1, cut)) for t in flat(net(batch))]
        outputs += [[part[:, t] for part in parts] for t in range(cut)]

    assert same(outputs, one_by_one)
    assert state.frames == 6


@RULES
@pytest.mark.parametrize('frames', [1, 4, 7])
def test_a_static_video_costs_one_dense_frame_and_the_gates(frames, memory):
    net = skipping(PyramidNet(), memory=memory)
    video = make_video(1, 1, *PyramidNet.shape) * frames

    _, macs = run_stream(net, video)

    assert macs.total() == mmskip.MacCount(
        dense=frames * PyramidNet.dense,
        executed=PyramidNet.dense,
        overhead=(frames - 1) * PyramidNet.gate_macs,
        reference=PyramidNet.dense,
    )


@RULES
def test_a_static_video_costs_no_more_with_flip_test(memory):
    net = FlipTest(skipping(PyramidNet(), memory=memory))
    video = make_video(1, 1, *PyramidNet.shape) * 4

    _, macs = run_stream(net, video)

    assert macs.total() == mmskip.MacCount(
        dense=2 * 4 * PyramidNet.dense,
        executed=2 * PyramidNet.dense,
        overhead=2 * 3 * PyramidNet.gate_macs,
        reference=2 * PyramidNet.dense,
    )
    assert macs.frames == 4


def test_flip_test_equals_two_separate_streams():
    net, shape = partly_skipping('pyramid')
    video = make_video(4, 1, *shape)

    both, _ = run_stream(FlipTest(net), video)
    plain, _ = run_stream(net, video)
    mirrored, _ = run_stream(net, [x.flip(-1) for x in video])

    expected = [a + b for a, b in zip(plain, mirrored, strict=True)]
    assert same(both, expected)


@RULES
def test_in_place_operations_of_the_caller_do_not_reach_the_memory(memory):
    net, shape = partly_skipping('2d', memory=memory)
    video = make_video(4, 1, *shape)
    expected, _ = run_stream(net, video)

    with mmskip.stream(net), torch.no_grad():
        for x, (output,) in zip(video, expected, strict=True):
            x = x.clone()
            result = net(x)
            assert torch.equal(result, output)
            result.fill_(7)
            x.fill_(7)


def test_a_new_stream_starts_with_a_reference_frame():
    net, shape = partly_skipping('2d')
    video = make_video(3, 1, *shape)

    first, first_macs = run_stream(net, video)
    second, second_macs = run_stream(net, video)

    assert same(first, second)
    assert first_macs.total() == second_macs.total()


def test_no_memory_is_kept_between_clips():
    net, shape = partly_skipping('2d')
    video = make_video(3, 1, *shape)
    batch = torch.stack(video, 1).flatten(0, 1)

    with mmskip.clip(net, 3), torch.no_grad():
        assert torch.equal(net(batch), net(batch))

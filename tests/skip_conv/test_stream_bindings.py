"""What runs a converted layer inside ``stream`` and ``clip``."""

import pytest
import torch
from torch import nn

import mmskip
from mmskip.skip_conv import (
    ClipBinding,
    SkipConv2d,
    StreamBinding,
    StreamState,
)
from mmskip.skip_conv.layer import run_frames
from tests.helpers.convs import make_video, whole_weights
from tests.helpers.nets import TinyNet, skipping
from tests.helpers.runs import same

GATE = dict(type='InputNormGate', threshold=0.4)


@pytest.fixture
def conv():
    return whole_weights(SkipConv2d(2, 4, 3, gate=GATE))


def fold(video):
    return torch.stack(video, 1).flatten(0, 1)


@pytest.mark.parametrize('restarts', [(), (0,), (2,), (1, 3), (0, 1, 2, 3)])
def test_restarts_cut_a_batch_into_videos(conv, restarts):
    video = make_video(4, 2, 2, 6, 6)
    expected, memory = [], None
    for t, x in enumerate(video):
        memory = None if t in restarts else memory
        output, mask, memory = conv.skip_frame(x, memory)
        expected.append((output, mask))
    outputs, masks = zip(*expected, strict=True)

    output, mask, last = run_frames(conv, fold(video), 4, None, restarts)

    assert torch.equal(output, fold(outputs))
    assert torch.equal(mask, fold(masks))
    assert same(last, memory)


def test_a_batch_that_is_no_multiple_of_the_clip_is_refused(conv):
    with pytest.raises(ValueError, match=r'multiple of num_frames=3.*got 4'):
        run_frames(conv, torch.zeros(4, 2, 6, 6), 3, None)


def test_an_image_without_batch_is_refused_by_name(conv):
    net = nn.Sequential(conv)

    with (
        mmskip.stream(net),
        pytest.raises(ValueError, match=r'^0: .*4 dimensions.*\(2, 6, 6\)'),
    ):
        net(torch.zeros(2, 6, 6))


@pytest.mark.parametrize(
    'bind',
    [
        lambda net: ClipBinding(net, 2),
        lambda n: StreamBinding(n, StreamState()),
    ],
    ids=['clip', 'stream'],
)
def test_a_model_without_converted_layers_is_refused(bind):
    with pytest.raises(ValueError, match=r'Linear without.*convert\(\)'):
        bind(nn.Linear(2, 2))


@pytest.mark.parametrize('frames', [0, 1])
def test_a_part_called_on_its_own_is_refused(frames):
    net = skipping(TinyNet())
    x = torch.zeros(1, *TinyNet.shape)

    with mmskip.stream(net):
        for _ in range(frames):
            net(x)
        with pytest.raises(RuntimeError, match=r'^stem was'):
            net.stem(x)


def test_a_part_can_be_streamed_on_its_own():
    net = skipping(TinyNet())
    video = make_video(3, 1, *TinyNet.shape)

    with mmskip.stream(net.stem) as state, torch.no_grad():
        for x in video:
            net.stem(x)

    assert state.frames == 3


def test_leaving_a_binding_leaves_no_trace():
    net = skipping(TinyNet())

    def traces():
        # What is worked out once stays: native layers, a gate's numbers.
        kept = ('_native_layers', '_params')
        return [
            {k: v for k, v in vars(module).items() if k not in kept}
            for module in net.modules()
        ]

    before = traces()

    with mmskip.count_macs(net), mmskip.stream(net):
        net(torch.zeros(1, *TinyNet.shape))
    with mmskip.clip(net, 1):
        net(torch.zeros(1, *TinyNet.shape))

    assert traces() == before


@pytest.mark.parametrize(
    'outer', [mmskip.stream, lambda net: mmskip.clip(net, 2)]
)
@pytest.mark.parametrize(
    'inner', [mmskip.stream, lambda net: mmskip.clip(net, 2)]
)
@pytest.mark.parametrize('part', [False, True])
def test_a_model_is_in_one_stream_or_clip_at_a_time(outer, inner, part):
    net = skipping(TinyNet())

    with (
        outer(net),
        pytest.raises(RuntimeError, match='inside a stream or clip already'),
        inner(net.stem if part else net),
    ):
        pass

    with inner(net):
        net(torch.zeros(2, *TinyNet.shape))

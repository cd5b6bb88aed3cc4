"""Compiled streams are streams, of two graphs."""

import copy

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters

import mmskip
from mmskip import StreamState
from mmskip.ops import native
from mmskip.runtime import HomographyMotion
from tests.helpers.convs import make_video
from tests.helpers.nets import (
    SETTINGS,
    FlipTest,
    PyramidNet,
    TinyNet,
    Windows,
    change_setting,
)
from tests.helpers.runs import flat, run_stream, same

pytestmark = pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)
GATES = {
    'norm': dict(type='OutputNormGate', threshold=0.05),
    'relative': dict(type='InputNormGate', threshold=0.1, relative=True),
    'learned': dict(type='GumbelGate', sees='magnitude', bias=0.1),
}


@pytest.fixture
def compiler():
    """Counts the graphs that it compiles."""
    counters.clear()
    return CompileCounterWithBackend('aot_eager')


def converted(net, gate='norm', memory='previous'):
    conversion = mmskip.SkipConversion(gate=GATES[gate], memory=memory)
    mmskip.convert(net.eval(), conversion)
    for module in net.modules():
        if isinstance(module, mmskip.SkipConv2d) and gate == 'learned':
            nn.init.constant_(module.gate.bias, -0.3)
    return net


def pair(net, compiler, **options):
    """A converted net, and the same compiled."""
    plain = converted(net, **options)
    compiled = copy.deepcopy(plain)
    mmskip.compile_stream(compiled, backend=compiler)
    return plain, compiled


@torch.no_grad()
def run(net, video, state):
    """Outputs frame by frame, without a ledger."""
    with mmskip.stream(net, state):
        return [flat(net(x)) for x in video]


def close(found, expected):
    return all(
        torch.allclose(a, b, rtol=1e-5, atol=1e-5)
        for x, y in zip(found, expected, strict=True)
        for a, b in zip(x, y, strict=True)
    )


@pytest.mark.parametrize('net_class', [TinyNet, PyramidNet])
@pytest.mark.parametrize('memory', ['previous', 'accumulated'])
@pytest.mark.parametrize('gate', GATES)
def test_outputs_masks_and_memory_are_those_of_the_stream(
    net_class, memory, gate, compiler
):
    plain, compiled = pair(net_class(), compiler, gate=gate, memory=memory)
    video = make_video(5, 2, *net_class.shape, share=0.03)
    a, b = StreamState(), StreamState()

    expected = run(plain, video, a)
    found = run(compiled, video, b)

    assert close(found, expected)
    assert a.frames == b.frames == 5
    assert list(a.slots) == list(b.slots)
    for site, memory in a.slots.items():
        assert all(map(torch.allclose, b.slots[site][:3], memory[:3]))
        assert torch.equal(a.last_masks()[site], b.last_masks()[site])
    assert not all(mask.all() for mask in b.last_masks().values())


def test_streams_resets_and_weights_share_two_graphs(compiler):
    plain, compiled = pair(TinyNet(), compiler)
    videos = [make_video(4, 1, *TinyNet.shape, share=0.1) for _ in range(2)]
    results = []
    for net in (plain, compiled):
        states = StreamState(), StreamState()
        outputs = []
        for _ in range(2):  # two videos in turn, two frames at a time
            for state, video in zip(states, videos, strict=True):
                outputs += run(net, video[:2], state)
        states[0].reset()
        outputs += run(net, videos[0], states[0])
        with torch.no_grad():
            net.body.weight.mul_(0.5)
        outputs += run(net, videos[0], states[0])
        results.append(outputs)

    assert close(*results[::-1])
    assert compiler.frame_count == 2
    assert not counters['graph_break']


def test_a_net_that_runs_twice_a_frame_shares_two_graphs(compiler):
    plain = converted(FlipTest(TinyNet()))
    compiled = copy.deepcopy(plain)
    mmskip.compile_stream(compiled.net, backend=compiler)
    video = make_video(4, 1, *TinyNet.shape, share=0.1)
    a, b = StreamState(), StreamState()

    expected, found = run(plain, video, a), run(compiled, video, b)

    assert close(found, expected)
    assert set(a.slots) == set(b.slots)
    assert ('net.body', 1) in b.slots
    assert compiler.frame_count == 2


def test_the_memory_is_nobody_elses_with_inductor():
    # Its compiler merges equal copies: of an output, and of the next input.
    plain, compiled = pair(PyramidNet(), 'inductor')
    video = make_video(3, 1, *PyramidNet.shape, share=0.1)
    a, b = StreamState(), StreamState()

    expected, found = run(plain, video, a), run(compiled, video, b)

    assert close(found, expected)
    kept = [t.data_ptr() for memory in b.slots.values() for t in memory[:3]]
    assert len(kept) == len(set(kept))


@pytest.mark.parametrize('setting', SETTINGS)
@pytest.mark.parametrize('memory', ['previous', 'accumulated'])
def test_what_is_changed_in_mid_stream_is_what_runs(setting, memory, compiler):
    video = make_video(9, 1, *TinyNet.shape, share=0.05)
    results = []
    for net in pair(TinyNet(), compiler, gate='relative', memory=memory):
        state = StreamState()
        outputs = run(net, video[:3], state)
        for index, value in enumerate((-1.0, 0.02, 0.5)):
            with torch.no_grad():
                change_setting(net.body, setting, value)
            part = video[3 + 2 * index : 5 + 2 * index]
            outputs += run(net, part, state)
        results.append(outputs)

    assert close(*results[::-1])


def test_many_thresholds_need_few_graphs(compiler):
    _, net = pair(TinyNet(), compiler)
    video = make_video(4, 1, *TinyNet.shape, share=0.05)

    for step in range(12):
        for layer in (net.stem, net.body, net.head):
            layer.gate.threshold = 0.01 * step
        run(net, video, StreamState())

    assert compiler.frame_count <= 4


def test_another_size_is_a_counted_reference_frame(compiler):
    plain, compiled = pair(TinyNet(), compiler)
    video = [
        *make_video(2, 1, *TinyNet.shape, share=0.05),
        *make_video(2, 1, 3, 24, 24, share=0.05),
    ]
    a, b = StreamState(), StreamState()

    assert close(run(compiled, video, b), run(plain, video, a))
    assert a.shape_changes == b.shape_changes == 3


def test_macs_are_counted_without_the_graphs(compiler):
    plain, compiled = pair(TinyNet(), compiler)
    video = make_video(4, 1, *TinyNet.shape, share=0.05)

    expected, macs = run_stream(plain, video)
    found, compiled_macs = run_stream(compiled, video)

    assert same(found, expected)
    assert compiled_macs.by_module() == macs.by_module()
    assert compiler.frame_count == 0


def test_outside_of_streams_nothing_is_compiled(compiler):
    plain, compiled = pair(TinyNet(), compiler)
    x = torch.randn(1, *TinyNet.shape)

    assert torch.equal(compiled(x), plain(x))
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    assert compiler.frame_count == 0


def test_two_models_do_not_share_graphs(compiler):
    video = make_video(3, 1, *TinyNet.shape, share=0.05)

    for _ in range(2):
        plain, compiled = pair(TinyNet(), compiler)
        expected = run(plain, video, StreamState())
        assert close(run(compiled, video, StreamState()), expected)


def test_in_training_mode_nothing_is_compiled(compiler):
    _, compiled = pair(TinyNet(), compiler)
    compiled.train()

    run(compiled, make_video(3, 1, *TinyNet.shape), StreamState())

    assert compiler.frame_count == 0


def test_a_copy_has_a_forward_of_its_own(compiler):
    _, compiled = pair(TinyNet(), compiler)
    twin = copy.deepcopy(compiled)
    with torch.no_grad():
        twin.classifier.weight.zero_()
        twin.classifier.bias.fill_(3)
    video = make_video(3, 1, *TinyNet.shape, share=0.05)

    for (output,) in run(twin, video, StreamState()):
        assert (output == 3).all()


def test_revert_gives_the_forward_back(compiler):
    _, compiled = pair(TinyNet(), compiler)

    mmskip.revert(compiled)

    assert 'forward' not in compiled.__dict__


def test_what_cannot_be_compiled_is_refused(compiler):
    with pytest.raises(ValueError, match=r'call mmskip.convert\(\)'):
        mmskip.compile_stream(TinyNet())
    with pytest.raises(ValueError, match='3-D convolution'):
        mmskip.compile_stream(converted(Windows()))
    net = converted(TinyNet())
    net.body.motion = HomographyMotion()
    with pytest.raises(ValueError, match='motion compensation'):
        mmskip.compile_stream(net)
    net = FlipTest(pair(TinyNet(), compiler)[1])
    with pytest.raises(ValueError, match='the forward of net is replaced'):
        mmskip.compile_stream(net)


def test_a_pose_backbone_has_two_graphs(compiler):
    models = pytest.importorskip('mmpose.models')
    scale = dict(num_modules=1, block='BASIC')
    widths = [(4,), (4, 8), (4, 8, 16), (4, 8, 16, 32)]
    extra = {
        f'stage{i}': dict(
            scale,
            num_branches=len(width),
            num_blocks=(1,) * len(width),
            num_channels=width,
        )
        for i, width in enumerate(widths, 1)
    }
    extra['stage1']['block'] = 'BOTTLENECK'
    net = models.HRNet(extra)
    net.eval()
    mmskip.convert(net, mmskip.SkipConversion(gate=GATES['relative']))
    compiled = copy.deepcopy(net)
    mmskip.compile_stream(compiled, backend=compiler)
    video = make_video(4, 1, 3, 64, 64, share=0.05)

    expected = run(net, video, StreamState())
    found = run(compiled, video, StreamState())

    assert close(found, expected)
    assert compiler.frame_count == 2
    assert not counters['graph_break']

"""Streams on the native backend are those of the torch reference."""

import copy
import threading
import warnings

import pytest
import torch
from torch import nn

import mmskip
from mmskip import StreamState
from mmskip.native import library as native
from tests.helpers.convs import make_video
from tests.helpers.nets import SETTINGS, PyramidNet, TinyNet, change_setting
from tests.helpers.runs import run_stream, same

BUILT = pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)
GATES = {
    'norm': dict(type='OutputNormGate', threshold=15.0),
    'relative': dict(type='InputNormGate', threshold=0.1, relative=True),
    'blocks': dict(type='InputNormGate', threshold=0.5, block_size=4),
    'learned': dict(type='GumbelGate', gate_input='magnitude', bias=0.1),
}


def converted(net, gate='norm', memory='previous'):
    conversion = mmskip.SkipConversion(gate=GATES[gate], memory=memory)
    mmskip.convert(net.eval(), conversion)
    for module in net.modules():
        if isinstance(module, mmskip.SkipConv2d) and gate == 'learned':
            nn.init.constant_(module.gate.bias, -3.0)
    return net


def close(found, expected):
    return all(
        (a - b).abs().max() <= 1e-5 * b.abs().max()
        for x, y in zip(found, expected, strict=True)
        for a, b in zip(x, y, strict=True)
    )


@BUILT
@pytest.mark.parametrize('net_class', [TinyNet, PyramidNet])
@pytest.mark.parametrize('memory', ['previous', 'accumulated'])
@pytest.mark.parametrize('gate', GATES)
def test_outputs_and_macs_equal_those_of_the_reference(
    net_class, memory, gate, monkeypatch
):
    net = converted(net_class(), gate, memory)
    video = make_video(5, 2, *net_class.shape, share=0.03)

    monkeypatch.setenv('MMSKIP_BACKEND', 'reference')
    expected, macs = run_stream(net, video)
    monkeypatch.setenv('MMSKIP_BACKEND', 'native')
    found, native_macs = run_stream(net, video)

    assert macs.total().executed < macs.total().dense
    assert native_macs.by_module() == macs.by_module()
    assert close(found, expected)


@BUILT
@pytest.mark.parametrize('setting', SETTINGS)
@pytest.mark.parametrize('memory', ['previous', 'accumulated'])
def test_what_is_changed_in_mid_stream_is_what_runs(
    setting, memory, monkeypatch
):
    video = make_video(6, 1, *TinyNet.shape, share=0.03)
    original = converted(TinyNet(), 'relative', memory)
    runs = {}
    for backend in ('reference', 'native'):
        monkeypatch.setenv('MMSKIP_BACKEND', backend)
        net, state = copy.deepcopy(original), StreamState()
        first, _ = run_stream(net, video[:3], state)
        with torch.no_grad():
            change_setting(net.body, setting, -1.0)
        runs[backend] = first + run_stream(net, video[3:], state)[0]

    assert close(runs['native'], runs['reference'])


@BUILT
@torch.no_grad()
def test_two_threads_with_a_model_each_do_not_touch_each_other():
    video = make_video(20, 1, *TinyNet.shape, share=0.1)
    nets = [converted(TinyNet()) for _ in range(2)]
    alone = [run_stream(net, video)[0] for net in nets]
    together = [None, None]

    def work(index):
        together[index] = run_stream(nets[index], video)[0]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(same(a, b) for a, b in zip(together, alone, strict=True))


@BUILT
def test_a_stream_with_gradients_says_that_it_saves_no_time():
    net = converted(TinyNet())

    with (
        mmskip.stream(net),
        pytest.warns(UserWarning, match='gradients are enabled'),
    ):
        net(torch.zeros(1, *TinyNet.shape))


@BUILT
@pytest.mark.parametrize('gate', GATES)
@torch.no_grad()
def test_autocast_runs_on_the_reference_and_says_so_once(gate, monkeypatch):
    net = converted(TinyNet(), gate)
    video = make_video(4, 1, *TinyNet.shape, share=0.03)
    runs = []
    for backend in ('native', 'reference'):
        monkeypatch.setenv('MMSKIP_BACKEND', backend)
        with (
            torch.autocast('cpu', torch.bfloat16),
            warnings.catch_warnings(record=True) as told,
            mmskip.stream(net),
        ):
            warnings.simplefilter('always')
            runs.append([[net(x)] for x in video])
        said = [str(w.message) for w in told if 'autocast' in str(w.message)]
        assert len(said) == (backend == 'native')

    assert same(*runs)


@BUILT
@torch.no_grad()
def test_a_stream_goes_in_and_out_of_autocast():
    net = converted(TinyNet(), 'blocks', 'accumulated')
    video = make_video(6, 1, *TinyNet.shape, share=0.03)
    state = StreamState()

    for index, x in enumerate(video):
        with torch.autocast('cpu', torch.bfloat16, enabled=index in (2, 3)):
            fresh, _ = run_stream(net, [x])
            (found,), _ = run_stream(net, [x], state)
        if index in (2, 4):
            assert same(fresh, [found])

    assert state.shape_changes == 6


@BUILT
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64])
@torch.no_grad()
def test_leaving_float32_is_said_once_in_a_stream(dtype):
    net = converted(TinyNet())
    video = [x.to(dtype) for x in make_video(4, 1, *TinyNet.shape)]
    name = str(dtype).removeprefix('torch.')

    with warnings.catch_warnings(record=True) as told, mmskip.stream(net):
        warnings.simplefilter('always')
        net(video[0].float())
        assert not told
        net.to(dtype)
        for x in video:
            net(x)

    (warning,) = told
    assert str(warning.message) == (
        'Skip-Convolutions run on the torch reference, which saves no time: '
        f'of 3 layers 3 dtype {name}; the native backend takes float32 on '
        'the CPU'
    )


def test_a_stream_without_the_operators_says_that_it_saves_no_time(
    monkeypatch,
):
    monkeypatch.setattr(native, 'MISSING', 'they are not built')
    net = converted(TinyNet())

    with pytest.warns(UserWarning, match='they are not built'):
        run_stream(net, make_video(2, 1, *TinyNet.shape))


@BUILT
@torch.no_grad()
def test_folded_batch_norms_change_nothing_but_the_time():
    fuse_conv_bn = pytest.importorskip('mmcv.cnn').fuse_conv_bn
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 4, 1),
        nn.BatchNorm2d(4),
    )
    for norm in (net[1], net[4]):
        for tensor in (*norm.parameters(), *norm.buffers()):
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 2)
    net = converted(net, 'blocks')
    video = make_video(5, 1, 3, 16, 16, share=0.05)
    expected, macs = run_stream(net, video)

    found, folded_macs = run_stream(fuse_conv_bn(net), video)

    assert isinstance(net[1], nn.Identity)
    # The second layer's input is the same up to rounding.
    assert folded_macs.total() == macs.total()
    for (a,), (b,) in zip(found, expected, strict=True):
        assert (a - b).abs().max() <= 1e-4 * b.abs().max()

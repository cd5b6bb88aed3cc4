"""Activations inside of Skip-Convolutions change the time, nothing else."""

import copy

import pytest
import torch
from torch import nn

import mmskip
from mmskip import StreamState
from mmskip.native import library as native
from mmskip.plan import fold_activations
from tests.helpers.convs import make_video
from tests.helpers.runs import run_clip, run_dense, run_stream

BACKENDS = [
    'reference',
    pytest.param(
        'native',
        marks=pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING),
    ),
]
SHAPE = (3, 16, 16)


def convert(net, memory='previous', threshold=0.3):
    gate = dict(type='OutputNormGate', threshold=threshold)
    mmskip.convert(net, mmskip.SkipConversion(gate, memory=memory))
    return net.eval()


def make_net(*activations):
    """Convolutions with an activation behind each."""
    layers = []
    for index, activation in enumerate(activations):
        channels = 8 if index else SHAPE[0]
        layers += [nn.Conv2d(channels, 8, 3, padding=1), activation]
    return nn.Sequential(*layers, nn.Conv2d(8, 4, 1))


def states(net, video):
    """Outputs, ledger and state of a stream."""
    state = StreamState()
    return *run_stream(net, video, state), state


def close(found, expected):
    return all(
        (a - b).abs().max() <= 1e-4 * b.abs().max()
        for (a,), (b,) in zip(found, expected, strict=True)
    )


ACTIVATIONS = [
    {'relu': nn.ReLU(inplace=True), 'silu': nn.SiLU()},
    {'relu6': nn.ReLU6(inplace=True), 'hardswish': nn.Hardswish()},
    {'leaky_relu:0.1': nn.LeakyReLU(0.1), 'leaky_relu:0.01': nn.LeakyReLU()},
]


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('memory', ['previous', 'accumulated'])
@pytest.mark.parametrize('activations', ACTIVATIONS, ids='+'.join)
def test_a_stream_computes_and_remembers_as_before(
    backend, memory, activations, monkeypatch
):
    monkeypatch.setenv('MMSKIP_BACKEND', backend)
    net = convert(make_net(*activations.values()), memory)
    video = make_video(6, 2, *SHAPE, share=0.05)
    expected, macs, before = states(net, video)

    names, _ = fold_activations(net)
    found, folded_macs, after = states(net, video)

    assert names == ['0', '2']
    assert [net[0].activation, net[2].activation] == list(activations)
    assert isinstance(net[1], nn.Identity)
    assert isinstance(net[3], nn.Identity)
    assert close(found, expected)
    assert 0 < macs.total().executed < macs.total().dense
    assert folded_macs.by_module() == macs.by_module()
    for site, memory_before in before.slots.items():
        assert torch.equal(after.last_masks()[site], before.last_masks()[site])
        kept = after.slots[site]
        assert (kept.output < 0).any()
        torch.testing.assert_close(kept.output, memory_before.output)
        torch.testing.assert_close(kept.input, memory_before.input)


@pytest.mark.parametrize('run', [run_dense, run_clip])
def test_outside_of_streams_and_in_clips_it_is_applied_too(run):
    net = convert(make_net(nn.ReLU(), nn.SiLU(inplace=True)))
    video = make_video(3, 2, *SHAPE, share=0.2)
    expected, _ = run(net, video)

    fold_activations(net)

    assert close(run(net, video)[0], expected)


def test_gradients_are_those_of_the_layers_apart():
    net = convert(make_net(nn.ReLU(), nn.SiLU()))
    x = torch.randn(4, *SHAPE)

    def gradients():
        net.zero_grad()
        with mmskip.clip(net.train(), 2):
            net(x).square().sum().backward()
        net.eval()
        return [p.grad.clone() for p in net.parameters()]

    expected = gradients()
    fold_activations(net)

    torch.testing.assert_close(gradients(), expected)


@pytest.mark.parametrize('backend', BACKENDS)
def test_a_stream_goes_on_where_it_was(backend, monkeypatch):
    monkeypatch.setenv('MMSKIP_BACKEND', backend)
    net = convert(make_net(nn.ReLU(), nn.SiLU()))
    video = make_video(6, 1, *SHAPE, share=0.05)
    expected, _ = run_stream(net, video)
    state = StreamState()
    first, _ = run_stream(net, video[:3], state)

    fold_activations(net)

    assert close(first + run_stream(net, video[3:], state)[0], expected)


def test_modules_of_mmcv_are_folded_in_their_order():
    cnn = pytest.importorskip('mmcv.cnn')

    def block(**options):
        options = dict(norm_cfg=dict(type='BN'), **options)
        return cnn.ConvModule(3, 3, 3, padding=1, **options)

    net = nn.Sequential(
        block(),
        block(order=('conv', 'act', 'norm')),
        block(order=('act', 'conv', 'norm')),
        block(act_cfg=dict(type='Swish')),
        block(act_cfg=dict(type='LeakyReLU')),
        block(act_cfg=None),
        cnn.ConvModule(3, 3, 1, norm_cfg=dict(type='GN', num_groups=1)),
    )
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    convert(net)
    video = make_video(4, 1, *SHAPE, share=0.05)
    expected, _ = run_stream(net, video)

    mmskip.fold(net)

    layers = [module.conv.activation for module in net]
    assert layers == [
        *('relu', 'relu', None, 'silu', 'leaky_relu:0.01', None, None)
    ]
    assert close(run_stream(net, video)[0], expected)


class Block(nn.Sequential):
    """Runs its parts in an order of its own."""

    def forward(self, x):
        return self[0](self[1](x))


def hooked(activation):
    activation.register_forward_hook(lambda *_: None)
    return activation


def shared_twice():
    shared = nn.Conv2d(3, 3, 1)
    return nn.Sequential(nn.Sequential(shared, nn.ReLU()), shared)


@pytest.mark.parametrize(
    'net',
    [
        Block(nn.Conv2d(3, 3, 1), nn.ReLU()),
        nn.ModuleList([nn.Conv2d(3, 3, 1), nn.ReLU()]),
        nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1)),
        nn.Sequential(nn.Conv2d(3, 3, 1), nn.GELU()),
        nn.Sequential(nn.Conv2d(3, 3, 1), nn.MaxPool2d(2), nn.ReLU()),
        nn.Sequential(nn.Conv2d(3, 3, 1), hooked(nn.ReLU())),
        shared_twice(),
    ],
    ids=[
        'own order',
        'no order',
        'before',
        'another activation',
        'not next',
        'hook',
        'shared layer',
    ],
)
def test_what_is_not_certain_stays(net):
    folded, left = fold_activations(convert(net))

    assert not folded
    assert all(left.values())


def test_a_dense_layer_keeps_its_activation():
    net = make_net(nn.ReLU()).eval()

    assert fold_activations(net) == ([], {})
    assert isinstance(net[1], nn.ReLU)


def test_an_activation_of_several_layers_is_folded_into_each():
    relu = nn.ReLU(inplace=True)
    net = convert(make_net(relu, relu))
    video = make_video(3, 1, *SHAPE, share=0.1)
    expected, _ = run_stream(net, video)

    assert fold_activations(net) == (['0', '2'], {})
    assert close(run_stream(net, video)[0], expected)


def test_a_swish_of_mmcv_takes_one_pass():
    swish = pytest.importorskip('mmcv.cnn.bricks').Swish
    net = nn.Sequential(swish()).eval()
    x = torch.randn(2, 3)
    expected = net(x)

    mmskip.fold(net)

    assert type(net[0]) is nn.SiLU
    torch.testing.assert_close(net(x), expected)


def test_there_is_no_way_back():
    net = convert(make_net(nn.ReLU(), nn.SiLU()))
    fold_activations(net)
    twin = copy.deepcopy(net)

    with pytest.raises(
        ValueError, match=r'got 0: it has the relu .*no way back'
    ):
        mmskip.revert(net)
    assert str(net) == str(twin)
    assert 'previous' in str(net)
    assert 'silu' in str(net)

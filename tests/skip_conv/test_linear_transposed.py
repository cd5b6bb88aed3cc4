"""Transposed convolutions that compute only what changed."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import mmskip
from mmskip.core import dense_macs
from mmskip.reading import InputError
from mmskip.skip_conv import MEMORY_RULES, SkipConvTranspose2d
from tests.helpers.convs import make_video, whole_numbers, whole_weights
from tests.helpers.runs import flat, run_clip, run_stream

OPEN = dict(type='InputNormGate', threshold=-1)
EXACT = dict(type='InputNormGate', threshold=0)
CLOSED = dict(type='OutputNormGate', threshold=1e9)
SIZE = 5, 7
#: SimpleBaseline's and CenterNet's; Mask R-CNN's; U-Net's; others.
LAYERS = {
    '4x4 by 2': dict(kernel_size=4, stride=2, padding=1),
    '2x2 by 2': dict(kernel_size=2, stride=2),
    '3x3 by 2': dict(kernel_size=3, stride=2, padding=1, output_padding=1),
    '3x3 by 1': dict(kernel_size=3, padding=1),
    '5x5 by 2': dict(
        kernel_size=5, stride=2, padding=2, output_padding=1, bias=False
    ),
    '8x8 by 4': dict(kernel_size=8, stride=4, padding=2),
    '3x3 by 3, moved': dict(
        kernel_size=3, stride=3, padding=1, output_padding=2
    ),
    'oblong': dict(kernel_size=(2, 5), stride=(2, 1), padding=(0, 2)),
    '1x1': dict(kernel_size=1),
}
EACH = pytest.mark.parametrize('options', LAYERS.values(), ids=LAYERS)
RULES = pytest.mark.parametrize('memory', MEMORY_RULES)


@pytest.fixture
def backend(request, monkeypatch):
    """The backend, if it is there."""
    monkeypatch.setenv('MMSKIP_BACKEND', request.param)
    return request.param


def each_backend(test):
    return pytest.mark.parametrize(
        'backend', ['reference', 'native'], indirect=True
    )(test)


def pair(options, **skip):
    """A layer of torch, and the same that skips."""
    plain = whole_weights(nn.ConvTranspose2d(4, 8, **options))
    twin = SkipConvTranspose2d(4, 8, **options, **skip)
    # Gates that learn have weights of their own.
    twin.load_state_dict(plain.state_dict(), strict=False)
    return plain, twin


@EACH
def test_unbound_is_the_torch_layer_bit_for_bit(options):
    plain, twin = pair(options, gate=EXACT)
    for one, other in zip(plain.parameters(), twin.parameters(), strict=True):
        nn.init.normal_(one)
        other.data.copy_(one)
    x = torch.randn(2, 4, *SIZE)

    assert torch.equal(twin(x), plain(x))
    assert torch.equal(twin(x[0]), plain(x[0]))


@each_backend
@RULES
@EACH
@pytest.mark.parametrize('gate', [OPEN, EXACT], ids=['open', 'exact'])
def test_an_open_gate_is_dense_on_every_frame(options, gate, memory, backend):
    plain, twin = pair(options, gate=gate, memory=memory)
    net = nn.Sequential(twin, nn.ReLU(inplace=True))
    video = make_video(4, 2, 4, *SIZE, share=0.05)

    outputs, _ = run_stream(net, video)

    for x, (output,) in zip(video, outputs, strict=True):
        assert torch.equal(output, plain(x).relu())


@RULES
@EACH
def test_a_clip_computes_what_a_stream_does(options, memory):
    gate = dict(type='OutputNormGate', threshold=20.0, block_size=2)
    _, twin = pair(options, gate=gate, memory=memory)
    video = make_video(4, 2, 4, *SIZE)

    streamed, one = run_stream(twin, video)
    clipped, other = run_clip(twin, video)

    for (found,), (expected,) in zip(clipped, streamed, strict=True):
        assert torch.equal(found, expected)
    assert other.total() == one.total()
    assert 0 < one.total().executed < one.total().dense


@pytest.mark.parametrize(
    'gate', [EXACT, dict(type='GumbelGate'), dict(type='LearnedNormGate')]
)
@RULES
def test_gradients_of_clips_reach_the_weights(gate, memory):
    gate = {'threshold': 0.1, **gate}
    if gate['type'] == 'GumbelGate':
        del gate['threshold']
    _, twin = pair(LAYERS['4x4 by 2'], gate=gate, memory=memory)
    video = torch.stack(make_video(3, 1, 4, *SIZE), 1).flatten(0, 1)

    with mmskip.clip(twin, 3):
        twin(video).square().mean().backward()

    assert all(p.grad.abs().sum() > 0 for p in twin.parameters())


@EACH
def test_dense_macs_are_those_of_torch(options):
    plain, twin = pair(options, gate=EXACT)
    x = whole_numbers(2, 4, *SIZE)
    with FlopCounterMode(display=False) as flops:
        output = plain(x)

    with mmskip.count_macs(twin) as macs:
        twin(x)

    assert dense_macs(plain, output.shape) * 2 == flops.get_total_flops()
    assert macs.total().dense * 2 == flops.get_total_flops()


@each_backend
@RULES
def test_a_still_frame_costs_the_comparison(memory, backend):
    _, twin = pair(LAYERS['4x4 by 2'], gate=EXACT, memory=memory)
    x = whole_numbers(1, 4, *SIZE)

    outputs, macs = run_stream(twin, [x, x, x])

    dense = 5 * 7 * 4 * 8 * 16
    overhead = 4 * 5 * 7 + 16 * 5 * 7
    assert torch.equal(outputs[2][0], outputs[0][0])
    assert macs.total().executed == dense
    assert macs.total().overhead == 2 * overhead


@each_backend
@RULES
@EACH
def test_a_pixel_costs_the_outputs_that_read_it(options, memory, backend):
    plain, twin = pair(options, gate=EXACT, memory=memory)
    x = whole_numbers(1, 4, *SIZE)
    y = x.clone()
    y[..., 2, 3] += 1

    outputs, macs = run_stream(twin, [x, y])

    # All positions of the kernel, each of which writes to another output.
    kernel, stride = plain.weight[0, 0].numel(), torch.tensor(twin.stride)
    per_output = plain.weight.numel() // stride.prod().item()
    dense = plain.weight.numel() * x[0, 0].numel()
    assert macs.total().executed == dense + kernel * per_output
    assert torch.equal(outputs[1][0], plain(y))


@each_backend
def test_computed_outputs_are_those_of_what_was_transmitted(backend):
    plain, twin = pair(
        LAYERS['4x4 by 2'],
        gate=dict(type='InputNormGate', threshold=1.0),
        memory='accumulated',
    )
    video = make_video(5, 1, 4, 9, 9, share=0.1)
    state = mmskip.StreamState()

    with torch.no_grad(), mmskip.stream(twin, state):
        for x in video:
            output = twin(x)
        (memory,) = [m.whole() for m in state.slots.values()]

    assert not torch.equal(memory.input, video[-1])
    assert torch.equal(output, plain(memory.input))


@RULES
def test_a_closed_gate_repeats_the_first_frame(memory):
    plain, twin = pair(LAYERS['4x4 by 2'], gate=CLOSED, memory=memory)
    video = make_video(3, 2, 4, *SIZE)

    outputs, macs = run_stream(twin, video)

    assert all(torch.equal(out[0], plain(video[0])) for out in outputs)
    assert macs.total().executed * 3 == macs.total().dense


def test_a_norm_gate_estimates_the_change_of_an_output():
    _, twin = pair(LAYERS['4x4 by 2'], gate=CLOSED)
    nn.init.normal_(twin.weight)
    x = torch.randn(1, 4, 64, 64)
    params = twin.params(x)

    scale = mmskip.skip_conv.gate_scale(params.gate, *params[0:3:2])
    statistic = mmskip.skip_conv.gate_statistic(
        x.abs().sign(), scale, (4, 4), params.geometry, 1
    )

    # Of inputs of size 1: the mean L1 norm of what an output is made of.
    filters = F.conv_transpose2d(
        torch.ones(1, 4, 64, 64), twin.weight.abs(), None, 2, 1
    )
    inside = filters[..., 2:-2, 2:-2].mean()
    assert statistic[..., 2:-2, 2:-2].mean().item() == pytest.approx(
        inside.item(), rel=1e-5
    )


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        (dict(kernel_size=4, groups=2), 'in groups'),
        (dict(kernel_size=3, dilation=2), 'with dilation'),
        (dict(kernel_size=1, stride=2), 'outputs that read no input'),
        (dict(kernel_size=3, stride=2), 'not stride times its input'),
        (dict(kernel_size=4, stride=2), 'not stride times its input'),
    ],
)
def test_others_stay_dense_and_are_reported(options, reason):
    net = nn.ModuleDict(
        dict(plain=nn.Conv2d(2, 2, 1), up=nn.ConvTranspose2d(2, 2, **options))
    )

    report = mmskip.convert(net, mmskip.SkipConversion(EXACT))

    assert report.converted == ['plain']
    assert reason in report.left_dense['up']
    assert type(net['up']) is nn.ConvTranspose2d
    with pytest.raises(ValueError, match=f'{reason}.*leave it dense'):
        SkipConvTranspose2d(2, 2, **options, gate=EXACT)


def test_a_part_of_a_mac_is_none():
    options = dict(kernel_size=3, stride=2, padding=1, output_padding=1)

    with pytest.raises(ValueError, match='no whole number of MACs'):
        SkipConvTranspose2d(3, 3, **options, gate=EXACT)


def test_motion_is_not_for_them():
    net = nn.ModuleDict(
        dict(plain=nn.Conv2d(2, 2, 1), up=nn.ConvTranspose2d(2, 2, 2, 2))
    )
    conversion = mmskip.SkipConversion(
        EXACT, 'accumulated', motion=dict(type='HomographyMotion')
    )

    report = mmskip.convert(net, conversion)

    assert 'motion compensation' in report.left_dense['up']


def test_conversion_and_the_way_back():
    bricks = pytest.importorskip('mmcv.cnn.bricks')
    up = bricks.ConvTranspose2d(2, 4, 4, 2, 1)
    net = nn.Sequential(nn.ConvTranspose2d(3, 2, 2, 2), up)
    keys, x = list(net.state_dict()), torch.randn(1, 3, 4, 4)
    expected = net(x)

    report = mmskip.convert(net, mmskip.SkipConversion(EXACT))

    assert report.converted == ['0', '1']
    assert torch.equal(net(x), expected)
    mmskip.revert(net)
    assert [type(m) for m in net] == [nn.ConvTranspose2d, type(up)]
    assert list(net.state_dict()) == keys


def test_an_output_size_is_its_own_in_streams():
    plain, twin = pair(LAYERS['4x4 by 2'], gate=EXACT)
    x = whole_numbers(1, 4, *SIZE)

    with mmskip.count_macs(twin) as macs:
        odd = twin(x, output_size=[11, 14])

    assert torch.equal(odd, plain(x, output_size=[11, 14]))
    assert macs.total().dense == 5 * 7 * 4 * 8 * 16
    with torch.no_grad(), mmskip.stream(twin):
        assert torch.equal(twin(x, output_size=[10, 14]), plain(x))
        with pytest.raises(InputError, match=r'\[10, 14\].*got \[11, 14\]'):
            twin(x, output_size=[11, 14])


@torch.no_grad()
def test_streams_in_lock_step_are_each_alone():
    gate = dict(type='OutputNormGate', threshold=20.0)
    _, twin = pair(LAYERS['3x3 by 2'], gate=gate, memory='accumulated')
    video = make_video(4, 2, 4, *SIZE)

    both, _ = run_stream(twin, video)
    alone = [
        run_stream(twin, [x[i : i + 1] for x in video])[0] for i in range(2)
    ]

    for t, frame in enumerate(both):
        found = torch.cat([alone[i][t][0] for i in range(2)])
        assert torch.equal(flat(frame)[0], found)

"""Convolutions that compute only what changed."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import mmskip
from mmskip.core import dense_macs
from mmskip.skip_conv import MEMORY_RULES, SkipConv2d, SkipConv3d
from tests.helpers.convs import (
    ALL_CONVS,
    SIZE,
    make_conv,
    make_video,
    whole_numbers,
    whole_weights,
)
from tests.helpers.runs import run_stream

OPEN = dict(type='InputNormGate', threshold=-1)
EXACT = dict(type='InputNormGate', threshold=0)
SKIP_CLASS = {2: SkipConv2d, 3: SkipConv3d}
EACH_CONV = pytest.mark.parametrize(('dim', 'options'), ALL_CONVS)
RULES = pytest.mark.parametrize('memory', MEMORY_RULES)


def skip_twin(dim, conv, options, **skip):
    twin = SKIP_CLASS[dim](4, 8, **options, **skip)
    twin.load_state_dict(conv.state_dict())
    return twin


@EACH_CONV
def test_unbound_is_the_torch_layer_bit_for_bit(dim, options):
    conv = make_conv(dim, options)
    for parameter in conv.parameters():
        nn.init.normal_(parameter)
    twin = skip_twin(dim, conv, options, gate=EXACT)
    x = torch.randn(2, 4, *SIZE[dim])

    assert torch.equal(twin(x), conv(x))
    assert torch.equal(twin(x[0]), conv(x[0]))


@RULES
@EACH_CONV
@pytest.mark.parametrize('gate', [OPEN, EXACT], ids=['open', 'exact'])
def test_open_gate_is_dense_on_every_frame(dim, options, memory, gate):
    conv = make_conv(dim, options)
    twin = skip_twin(dim, conv, options, gate=gate, memory=memory)
    net = nn.Sequential(twin, nn.ReLU(inplace=True))
    video = make_video(4, 2, 4, *SIZE[dim], share=0.05)

    outputs, _ = run_stream(net, video)

    for x, (output,) in zip(video, outputs, strict=True):
        assert torch.equal(output, conv(x).relu())


@EACH_CONV
def test_open_gate_executes_all_that_dense_does(dim, options):
    twin = skip_twin(dim, make_conv(dim, options), options, gate=OPEN)

    _, macs = run_stream(twin, make_video(4, 2, 4, *SIZE[dim]))

    assert macs.total().executed == macs.total().dense > 0


def test_accumulated_memory_leaves_out_what_reads_only_padding():
    conv = SkipConv2d(1, 1, 1, padding=1, gate=OPEN, memory='accumulated')

    _, macs = run_stream(conv, make_video(2, 1, 1, 4, 4))

    assert macs.total().dense == 36 + 36
    assert macs.total().executed == 36 + 16


@RULES
@EACH_CONV
def test_a_closed_gate_repeats_the_first_frame(dim, options, memory):
    conv = make_conv(dim, options)
    gate = dict(type='OutputNormGate', threshold=1e9)
    twin = skip_twin(dim, conv, options, gate=gate, memory=memory)
    video = make_video(3, 2, 4, *SIZE[dim])

    outputs, macs = run_stream(twin, video)

    assert all(torch.equal(out[0], conv(video[0])) for out in outputs)
    assert macs.total().executed * 3 == macs.total().dense


@EACH_CONV
def test_dense_macs_are_those_of_torch(dim, options):
    conv = make_conv(dim, options)
    with FlopCounterMode(display=False) as flops:
        output = conv(whole_numbers(2, 4, *SIZE[dim]))

    assert dense_macs(conv, output.shape) * 2 == flops.get_total_flops()


@pytest.mark.parametrize('dim', [2, 3])
def test_padding_and_stride_changed_after_construction_are_honoured(dim):
    # As done to turn a backbone's stride into dilation.
    conv = make_conv(dim, dict(kernel_size=3, stride=2, padding=1))
    twin = skip_twin(
        dim, conv, dict(kernel_size=3, stride=2, padding=1), gate=OPEN
    )
    for layer in (conv, twin):
        layer.stride, layer.padding = (1,) * dim, (2,) * dim
        layer.dilation = (2,) * dim
    x = whole_numbers(1, 4, *SIZE[dim])

    outputs, _ = run_stream(twin, [x, x])

    assert torch.equal(outputs[1][0], conv(x))


@RULES
@pytest.mark.parametrize('block', [1, 2, 4, 8])
@pytest.mark.parametrize('size', [(20, 20), (7, 9)])
def test_any_block_size_fits_any_feature_size(size, block, memory):
    gate = dict(type='OutputNormGate', threshold=0, block_size=block)
    conv = whole_weights(
        SkipConv2d(2, 4, 3, stride=2, padding=1, gate=gate, memory=memory)
    )
    video = make_video(4, 1, 2, *size, share=0.02)
    video += video[-1:]  # one more frame without any change

    outputs, macs = run_stream(conv, video)

    for x, (output,) in zip(video, outputs, strict=True):
        assert torch.equal(output, conv(x))
    assert macs.total().executed < macs.total().dense


def test_larger_blocks_compute_more():
    video = make_video(4, 1, 2, 20, 20, share=0.02)
    executed = []
    for block in (1, 2, 4, 8):
        gate = dict(type='InputNormGate', threshold=0, block_size=block)
        conv = whole_weights(SkipConv2d(2, 4, 3, gate=gate))
        executed.append(run_stream(conv, video)[1].total().executed)

    assert executed == sorted(set(executed))


def test_the_mask_of_a_3d_convolution_has_its_output_size():
    conv = SkipConv3d(2, 4, 3, stride=(1, 2, 2), padding=1, gate=EXACT)
    x = torch.zeros(1, 2, 4, 8, 8)

    with mmskip.stream(conv) as state, torch.no_grad():
        conv(x)
        x[0, 0, 0, 0, 0] = 1
        conv(x)

    mask = state.last_masks()['', 0]
    assert mask.shape == (1, 1, 4, 4, 4)
    assert mask.nonzero()[:, 2:].tolist() == [[0, 0, 0], [1, 0, 0]]


def test_weights_normalised_by_a_hook_are_the_ones_that_skip():
    conv = SkipConv2d(2, 4, 3, gate=OPEN).eval()
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(conv)
    video = make_video(3, 1, 2, 8, 8)

    outputs, _ = run_stream(conv, video)

    assert torch.allclose(outputs[2][0], conv(video[2]), atol=1e-4)


def test_the_signature_is_that_of_the_torch_layer():
    conv = SkipConv2d(
        4, 8, (3, 1), 2, (1, 0), bias=False, dtype=torch.double, gate=EXACT
    )

    assert isinstance(conv, nn.Conv2d)
    assert conv.weight.dtype == torch.double
    assert set(conv.state_dict()) == {'weight'}
    assert 'stride=(2, 2)' in repr(conv)
    assert "memory='previous'" in repr(conv)


def test_an_unknown_memory_is_refused():
    with pytest.raises(ValueError, match=r"'previous', 'accumulated'.*'all'"):
        SkipConv2d(1, 1, 1, gate=EXACT, memory='all')


def test_an_unknown_gate_is_refused():
    with pytest.raises(KeyError, match='OutputNormGate'):
        SkipConv2d(1, 1, 1, gate=dict(type='NoSuchGate'))


@RULES
def test_half_precision_skips_what_full_precision_skips(memory):
    gate = dict(type='InputNormGate', threshold=0.5)
    conv = whole_weights(SkipConv2d(2, 4, 3, gate=gate, memory=memory))
    video = make_video(4, 1, 2, 9, 9)

    full, full_macs = run_stream(conv, video)
    half, half_macs = run_stream(
        conv.bfloat16(), [x.bfloat16() for x in video]
    )

    assert full_macs.total() == half_macs.total()
    assert torch.equal(full[3][0], half[3][0].float())


@pytest.mark.parametrize('kind', ['InputNormGate', 'OutputNormGate'])
@pytest.mark.parametrize('memory', ['previous', 'accumulated'])
def test_a_relative_gate_trains_on_the_level_that_a_stream_has(kind, memory):
    torch.manual_seed(0)
    gate = dict(type=kind, threshold=0.2, order=2, relative=True)
    layer = SkipConv2d(2, 4, 3, padding=1, gate=gate, memory=memory)
    video = make_video(6, 3, 2, 8, 8)
    # Lights go on, at another time in each clip.
    gains = 1 + 15 * (torch.arange(6)[:, None] > torch.arange(3)).float()
    video = [
        x * gain.view(-1, 1, 1, 1)
        for x, gain in zip(video, gains, strict=True)
    ]
    state, expected, masks = None, [], []
    with torch.no_grad():
        for x in video:
            output, mask, state = layer.skip_frame(x, state)
            expected.append(output)
            masks.append(mask)

    output, cost, _ = layer.skip_clip(torch.stack(video, 1))

    assert torch.allclose(output, torch.stack(expected, 1), atol=1e-4)
    share = torch.stack(masks[1:]).float().mean()
    assert cost.hard.item() == pytest.approx(share.item())
    assert 0 < cost.hard < 1
    output.sum().backward()
    assert layer.weight.grad.abs().sum() > 0

"""The learned gate, in inference and in training."""

import copy

import pytest
import torch
from torch import nn

import mmskip
from mmskip import SkipConversion
from mmskip.native import ConvGeometry
from mmskip.skip_conv import MEMORY_RULES, GumbelGate, gate_logits
from mmskip.skip_conv.gate_mask import GatePlace

RULES = pytest.mark.parametrize('rule', MEMORY_RULES)
POINTWISE = ConvGeometry((1, 1), ((0, 0), (0, 0)), (1, 1))


def make_net(rule='previous', **gate):
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 4, 3, padding=2, dilation=2, groups=2),
    )
    dense = copy.deepcopy(net)
    gate = dict(type='GumbelGate', **gate)
    mmskip.convert(net, SkipConversion(gate, memory=rule))
    return net, dense


def pointwise_gate(weights, bias=0.5, **options):
    gate = GumbelGate(**options)
    gate.attach(nn.Conv2d(len(weights), 4, 1))
    with torch.no_grad():
        gate.weight.copy_(torch.tensor(weights).view(1, -1, 1, 1))
        gate.bias.fill_(bias)
    return gate


@RULES
@pytest.mark.parametrize('block', [1, 2, 4, 8])
def test_a_fresh_gate_is_open_and_the_model_equals_the_dense_one(rule, block):
    net, dense = make_net(rule, block_size=block)
    video = torch.randn(4, 1, 3, 11, 9)

    with torch.no_grad(), mmskip.stream(net.eval()):
        outputs = [net(x) for x in video]

    for x, output in zip(video, outputs, strict=True):
        torch.testing.assert_close(output, dense(x))


@RULES
def test_training_with_gates_that_cannot_close_equals_dense_training(rule):
    net, dense = make_net(rule, bias=50.0)
    net, dense = net.double(), dense.double()
    clips = torch.randn(6, 3, 9, 9, dtype=torch.float64)

    with mmskip.clip(net.train(), 3):
        net(clips).square().sum().backward()
    dense(clips).square().sum().backward()

    for name, parameter in dense.named_parameters():
        mine = dict(net.named_parameters())[name]
        torch.testing.assert_close(mine.grad, parameter.grad)


def test_a_gate_has_the_shape_of_its_layer_and_one_channel():
    net, _ = make_net()

    gates = {k: v.shape for k, v in net.state_dict().items() if 'gate' in k}

    assert gates == {
        '0.gate.weight': (1, 3, 3, 3),
        '0.gate.bias': (1,),
        '2.gate.weight': (1, 8, 3, 3),  # all groups
        '2.gate.bias': (1,),
    }


def test_a_dense_checkpoint_lacks_only_the_gates():
    net, dense = make_net()

    missing, unexpected = net.load_state_dict(dense.state_dict(), strict=False)

    assert missing
    assert all('.gate.' in key for key in missing)
    assert not unexpected


def test_gates_learn_with_the_model_and_go_with_revert():
    net, dense = make_net()

    assert len(list(net.parameters())) == len(list(dense.parameters())) + 4
    mmskip.revert(net)
    assert net.state_dict().keys() == dense.state_dict().keys()


@pytest.mark.parametrize(
    ('gate_input', 'expected'),
    [
        ('residual', [[True, False]]),
        ('magnitude', [[False, False]]),
        ('frame', [[False, True]]),
    ],
)
def test_inference_rounds_the_sigmoid_of_its_input(gate_input, expected):
    gate = pointwise_gate([-1.0], bias=0.5, gate_input=gate_input)
    conv = mmskip.SkipConv2d(1, 1, 1, gate=gate)
    with torch.no_grad():
        gate.weight.fill_(-1.0)
        gate.bias.fill_(0.5)
    old, new = torch.tensor([[5.0, -2.0]]), torch.tensor([[4.0, 0.0]])

    with torch.no_grad(), mmskip.stream(conv) as state:
        conv(old[None, None])
        conv(new[None, None])

    # Residuals -1 and 2, magnitudes 1 and 2, frames 4 and 0.
    (mask,) = state.last_masks().values()
    assert mask[0, 0].tolist() == expected


@pytest.mark.parametrize(('channels', 'size'), [(4, 1), (64, 3)])
def test_a_fresh_score_does_not_depend_on_the_layers_size(channels, size):
    gate = dict(
        type='GumbelGate', gate_input='magnitude', bias=2.0, sensitivity=6.0
    )
    conv = mmskip.SkipConv2d(channels, 1, size, gate=gate)
    residual = torch.full((1, channels, size, size), -0.5)

    scores = gate_logits(
        residual, residual, conv.geometry(residual), conv.gate.params()
    )

    torch.testing.assert_close(scores, torch.full((1, 1, 1, 1), 5.0))


def test_macs_are_those_of_a_convolution_with_one_output_channel():
    gate = GumbelGate()

    macs = gate.macs(
        torch.Size((2, 16, 10, 10)), torch.Size((2, 64, 5, 5)), kernel=9
    )

    assert macs == 2 * 5 * 5 * 16 * 9


@pytest.mark.parametrize('size', [(7, 9), (8, 8), (1, 3)])
def test_blocks_are_drawn_together(size):
    gate = pointwise_gate([1.0], bias=0.1, block_size=4)
    residual = torch.randn(3, 1, *size)

    place = GatePlace(torch.ones(()), POINTWISE, (1, 1))
    mask, probability, *_ = gate.draw(residual, residual, place)

    for drawn in (mask, probability):
        assert drawn.shape == (3, 1, *size)
        for rows in drawn.split(4, -2):
            for block in rows.split(4, -1):
                assert (block.flatten(1) == block.flatten(1)[:, :1]).all()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(temperature=0), 'temperature > 0'),
        (dict(bias=-1), 'bias > 0'),
        (dict(sensitivity=0), 'sensitivity > 0'),
        (dict(gate_input='nothing'), 'gate_input to be one of'),
        (dict(block_size=3), 'block_size'),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GumbelGate(**options)


@pytest.mark.parametrize('name', ['weight', 'bias'])
@torch.no_grad()
def test_what_is_written_past_the_counter_is_in_the_next_stream(name):
    net, _ = make_net(gate_input='magnitude')
    net.eval()
    video = torch.randn(2, 1, 3, 11, 9)
    shares = []
    for _ in range(2):
        with mmskip.stream(net) as state:
            for x in video:
                net(x)
        shares.append(state.last_masks()['0', 0].float().mean())

        getattr(net[0].gate, name).data.fill_(-100.0)

    assert shares == [1, 0]


@pytest.mark.parametrize('block', [1, 4])
def test_a_gate_that_is_frozen_alone_decides_as_in_inference(block):
    net, _ = make_net(block_size=block, gate_input='magnitude')
    clip = torch.randn(3, 3, 11, 9)
    for layer in (net[0], net[2]):
        nn.init.constant_(layer.gate.bias, -5.0)
        layer.gate.requires_grad_(False)
    with torch.no_grad(), mmskip.clip(net.eval(), 3):
        expected = net(clip)

    with mmskip.clip(net.train(), 3):
        found = net(clip)
        found.sum().backward()

    torch.testing.assert_close(found, expected)
    assert net[0].gate.weight.grad is None
    assert net[0].weight.grad is not None


def test_a_gate_learns_though_the_host_freezes_its_layer():
    net, _ = make_net()
    net.train()
    net[0].eval().requires_grad_(False)

    with mmskip.clip(net, 3):
        net(torch.randn(3, 3, 11, 9)).square().sum().backward()
        costs = len(net[0]._binding.costs)

    assert costs == 2
    assert net[0].weight.grad is None
    assert net[0].gate.weight.grad.abs().sum() > 0


def test_the_old_name_of_an_option_leads_to_the_new_one():
    with pytest.raises(TypeError, match='sees is called gate_input now'):
        GumbelGate(sees='magnitude')

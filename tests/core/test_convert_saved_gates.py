"""A checkpoint's learned gates are those of the model, or it has none."""

import pytest
import torch
from torch import nn

import mmskip
from mmskip.core.convert import check_gates
from mmskip.reading import InputError
from tests.helpers.nets import TinyNet


def converted(gate='GumbelGate', **where):
    net = TinyNet()
    gate = dict(type=gate)
    if gate['type'] != 'GumbelGate':
        gate['threshold'] = 0.1
    mmskip.convert(net, mmskip.SkipConversion(gate), **where)
    return net


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_the_gates_of_the_model_pass(prefix):
    net = converted()
    saved = {prefix + k: v for k, v in net.state_dict().items()}

    assert not check_gates(net, saved, 'a.pth')
    assert not check_gates(nn.ModuleDict(dict(module=net)), saved, 'a.pth')


@pytest.mark.parametrize('net', [TinyNet(), converted('OutputNormGate')])
def test_dense_weights_leave_learned_gates_untrained(net):
    assert check_gates(converted(), net.state_dict(), 'a.pth')
    assert not check_gates(net, TinyNet().state_dict(), 'a.pth')


@pytest.mark.parametrize(
    ('model', 'file', 'text'),
    [
        (converted(), converted(exclude='body'), r'1 \(body, .*, none in it'),
        (converted(exclude='body'), converted(), r'none of .*, 1 \(body, '),
        (TinyNet(), converted(), r'none of the model .* 3 \(body, '),
        (converted('InputNormGate'), converted(), r'3 \(body, .* in it'),
    ],
)
def test_gates_of_another_conversion_are_refused(model, file, text):
    with pytest.raises(InputError, match=text):
        check_gates(model, file.state_dict(), 'a.pth')


def test_gates_of_another_shape_are_refused():
    net = converted()
    saved = net.state_dict()
    saved['stem.gate.weight'] = torch.zeros(1, 3, 5, 5)

    with pytest.raises(InputError, match=r'\(1, 3, 3, 3\) .* \(1, 3, 5, 5\)'):
        check_gates(net, saved, 'a.pth')


def test_layers_with_two_names_are_known_by_both():
    net = converted()
    net.again = net.stem

    assert not check_gates(net, net.state_dict(), 'a.pth')


def test_other_parts_called_gate_are_no_gates():
    net = TinyNet()
    net.mixture = nn.ModuleDict(dict(gate=nn.Linear(2, 2)))

    assert not check_gates(TinyNet(), net.state_dict(), 'a.pth')

"""Which convolutions get gates for their channels."""

import pytest
import torch
from torch import nn

import mmskip
from mmskip import L0Conversion
from mmskip.core.convert import check_gates
from mmskip.reading import InputError
from tests.helpers.nets import TinyNet


@pytest.fixture
def net():
    return TinyNet().eval()


def test_the_report_names_what_stays(net):
    net.up = nn.ConvTranspose2d(2, 2, 2)
    report = mmskip.convert(net, L0Conversion(), exclude='head')

    assert report.converted == ['stem']
    assert report.left_dense == {
        'body': 'grouped: without some channels its groups are unequal',
        'head': 'excluded',
        'classifier': 'not a convolution',
        'up': 'transposed convolution',
    }


def test_a_plain_checkpoint_lacks_only_the_gates(net):
    state = {k: v.clone() for k, v in net.state_dict().items()}
    x = torch.randn(1, *TinyNet.shape)
    expected = net(x)
    mmskip.convert(net, L0Conversion())

    found = net.load_state_dict(state, strict=False)

    assert found.unexpected_keys == []
    assert found.missing_keys == [
        'stem.gate.log_alpha',
        'head.gate.log_alpha',
    ]
    assert torch.equal(net(x), expected)


def test_gates_of_other_layers_are_refused(net):
    other = TinyNet()
    mmskip.convert(net, L0Conversion())
    mmskip.convert(other, L0Conversion(), exclude='head')

    assert check_gates(net, TinyNet().state_dict(), 'a.pth')
    assert not check_gates(net, net.state_dict(), 'a.pth')
    with pytest.raises(InputError, match=r'head.*are not in it'):
        check_gates(net, other.state_dict(), 'a.pth')


def test_a_layer_with_gates_is_not_converted_again(net):
    mmskip.convert(net, L0Conversion())

    with pytest.raises(ValueError, match='converted already'):
        mmskip.convert(net, L0Conversion())


def test_revert_gives_the_plain_model_back(net):
    keys, text = list(net.state_dict()), str(net)
    x = torch.randn(1, *TinyNet.shape)
    expected = net(x)
    mmskip.convert(net, L0Conversion())
    mmskip.revert(net)

    assert (list(net.state_dict()), str(net)) == (keys, text)
    assert torch.equal(net(x), expected)

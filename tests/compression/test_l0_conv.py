"""Convolutions that learn which of their output channels are needed."""

import copy
import pickle

import pytest
import torch
from mmcv.cnn import fuse_conv_bn
from torch import nn

import mmskip
from mmskip import L0Conversion
from mmskip.compression import L0Conv2d, L0Conv3d
from tests.helpers.convs import CONVS_2D, CONVS_3D, SIZE

CASES = [
    (dim, name)
    for dim, convs in ((2, CONVS_2D), (3, CONVS_3D))
    for name, options in convs.items()
    if 'groups' not in options
]
CLOSED = [0, 3, 4]


def make(dim, name, closed=CLOSED):
    """A layer, gated and plain, some of whose channels are closed."""
    torch.manual_seed(0)
    kind, options = {
        2: (nn.Conv2d, CONVS_2D[name] if dim == 2 else None),
        3: (nn.Conv3d, CONVS_3D[name] if dim == 3 else None),
    }[dim]
    plain = nn.Sequential(kind(4, 6, **options)).double().eval()
    net = copy.deepcopy(plain)
    mmskip.convert(net, L0Conversion())
    net[0].gate.log_alpha.data = torch.linspace(-1, 3, 6).double()
    net[0].gate.log_alpha.data[closed] = -3.0
    x = torch.randn(2, 4, *SIZE[dim], dtype=torch.float64)
    return net, plain, x


def test_it_begins_as_the_plain_layer_bit_for_bit():
    net, plain, x = make(2, 'plain')
    nn.init.constant_(net[0].gate.log_alpha, 2.5)

    assert type(net[0]) is L0Conv2d
    assert torch.equal(net(x), plain(x))


@pytest.mark.parametrize(('dim', 'name'), CASES)
def test_closed_channels_are_left_out_and_the_others_scaled(dim, name):
    net, plain, x = make(dim, name)
    gates = net[0].gate()
    bias = plain[0].bias
    if bias is None:
        bias = torch.zeros(6, dtype=torch.float64)
    bias = bias.view(-1, *[1] * dim)

    with mmskip.count_macs(net) as macs:
        y = net(x)

    assert type(net[0]) is {2: L0Conv2d, 3: L0Conv3d}[dim]
    expected = (plain(x) - bias) * gates.view(-1, *[1] * dim) + bias
    torch.testing.assert_close(y, expected)
    assert (gates[CLOSED] == 0).all()
    dense = y.numel() * plain[0].weight[0].numel()
    assert macs.total() == (dense, dense // 6 * 3, 0, 0)
    assert macs.uncounted() == {}


def test_a_layer_may_close_wholly():
    net, plain, x = make(2, 'plain', closed=list(range(6)))

    with mmskip.count_macs(net) as macs:
        y = net(x)

    assert torch.equal(y, plain[0].bias.view(-1, 1, 1).expand_as(y))
    assert macs.total().executed == 0
    assert macs.total().dense > 0


def test_training_computes_all_and_learns():
    net, _, x = make(2, 'plain')
    net.train()

    with mmskip.count_macs(net) as macs:
        net(x).square().sum().backward()

    assert macs.total().executed == macs.total().dense
    assert all(p.grad is not None for p in net.parameters())
    # One draw for the whole batch.
    net(x)
    same = torch.cat([x[:1], x[:1]])
    assert torch.equal(*net(same))


@pytest.mark.parametrize(('dim', 'name'), CASES)
def test_revert_gives_a_plain_layer_with_the_gates_in_its_weights(dim, name):
    net, plain, x = make(dim, name)
    expected = net(x)

    mmskip.revert(net)

    assert str(net) == str(plain)
    assert list(net.state_dict()) == list(plain.state_dict())
    assert vars(net[0]).keys() == vars(plain[0]).keys()
    torch.testing.assert_close(net(x), expected)


def test_batch_norms_can_be_folded():
    net, _, x = make(2, 'plain')
    model = nn.Sequential(net[0], nn.BatchNorm2d(6).double())
    model.train()(x)
    model.eval()
    expected = model(x)

    folded = fuse_conv_bn(model)

    assert type(folded[1]) is nn.Identity
    torch.testing.assert_close(folded(x), expected)


def test_copies_and_pickles_leave_ledger_and_costs_behind():
    net, _, x = make(2, 'plain')
    net[0]._costs = []
    with mmskip.count_macs(net):
        copies = [copy.deepcopy(net), pickle.loads(pickle.dumps(net))]

    for other in copies:
        assert other[0]._ledger is None
        assert other[0]._costs is None
        assert torch.equal(other(x), net(x))


def test_an_image_without_a_batch_is_one():
    net, _, x = make(2, 'plain')

    torch.testing.assert_close(net(x[0]), net(x)[0])


def test_half_precision_runs_under_autocast():
    net, _, x = make(2, 'plain')
    net.float()

    with torch.autocast('cpu', torch.bfloat16):
        y = net(x.float())

    assert y.dtype == torch.bfloat16

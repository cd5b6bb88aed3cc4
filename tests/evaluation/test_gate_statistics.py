import pytest
import torch
from torch import nn

import mmskip
from mmskip.evaluation import GateWatch
from mmskip.skip_conv import StreamState
from tests.helpers.nets import PyramidNet, TinyNet

FRAMES = 4


def learned(net, bias, spread=0.0, **options):
    """A network with gates of one bias and a random kernel."""
    torch.manual_seed(0)
    gate = dict(type='GumbelGate', **options)
    mmskip.convert(net.eval(), mmskip.SkipConversion(gate))
    for name, value in net.named_parameters():
        if name.endswith('gate.bias'):
            value.data.fill_(bias)
        if name.endswith('gate.weight'):
            value.data.normal_().mul_(spread)
    return net


@torch.no_grad()
def watched(net, shape):
    torch.manual_seed(1)
    watch, state = GateWatch(net), StreamState()
    with (
        mmskip.count_macs(net) as macs,
        mmskip.stream(net, state),
        watch.watch(state),
    ):
        for _ in range(FRAMES):
            net(torch.randn(1, *shape))
    return watch, macs


@pytest.mark.parametrize('bias', [50.0, -50.0])
@pytest.mark.parametrize('block_size', [1, 4])
def test_saturated_gates_do_what_is_expected(bias, block_size):
    net = learned(TinyNet(), bias, block_size=block_size)
    watch, _ = watched(net, (3, 16, 16))
    for shares in watch.layers.values():
        assert shares.dense > 0
        for name in ('expected', 'drawn', 'measured'):
            assert shares.share(name) == pytest.approx(float(bias > 0))


def test_measured_macs_are_those_of_the_ledger():
    net = learned(PyramidNet(), -0.5, spread=1.0)
    watch, macs = watched(net, PyramidNet.shape)
    assert set(watch.layers) == {'stem', 'shared'}
    for name, count in macs.by_module().items():
        shares = watch.layers[name]
        assert shares.dense == count.dense - count.reference
        assert shares.measured == pytest.approx(
            count.executed - count.reference, rel=1e-5
        )
    total = watch.total()
    assert total.dense == PyramidNet.dense * (FRAMES - 1)
    assert 0 < total.measured < total.dense


def test_gates_that_see_nothing_expect_the_sigmoid_of_their_bias():
    watch, _ = watched(learned(TinyNet(), 1.0), (3, 16, 16))
    total = watch.total()
    assert total.share('expected') == pytest.approx(0.7310586)
    assert total.share('measured') == 1
    assert total.share('drawn') == pytest.approx(0.731, abs=0.05)


def test_nothing_stays_behind():
    net = learned(TinyNet(), 1.0)
    watched(net, (3, 16, 16))
    for module in net.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_a_model_without_learned_gates_is_refused():
    with pytest.raises(ValueError, match='learned gates'):
        GateWatch(nn.Conv2d(1, 1, 1))

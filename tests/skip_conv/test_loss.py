"""Costs of gates under activation checkpointing."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import mmskip
from mmskip.skip_conv import MEMORY_RULES, GateCostLoss


class Net(nn.Module):
    """Blocks that run as they are, or with activation checkpointing.

    Args:
        reentrant: Of ``torch.utils.checkpoint``; None: without it.
    """

    def __init__(self, reentrant=None):
        super().__init__()
        self.reentrant = reentrant
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.shared = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 4, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.stem(x)
        x = self.run(self.twice, x)
        x = self.run(self.shared, x)
        return dict(loss_task=self.last(x).square().mean())

    def twice(self, x):
        return self.relu(self.shared(self.relu(self.shared(x))))

    def run(self, block, x):
        if self.reentrant is None:
            return block(x)
        return checkpoint(block, x, use_reentrant=self.reentrant)


def make(reentrant, memory='accumulated', include='.*'):
    torch.manual_seed(0)
    net = Net(reentrant)
    gate = dict(type='GumbelGate', bias=0.5)
    conversion = mmskip.SkipConversion(gate, memory=memory)
    mmskip.convert(net, conversion, include=include)
    # Not the mean of the costs: each call has a gradient of its own.
    _Squares(beta=1.0).attach(net)
    return net


class _Squares(GateCostLoss):
    def forward(self, costs):
        return dict(loss_gate=sum(c.expected**2 for c in costs))


def step(net, clip):
    torch.manual_seed(1)
    with mmskip.clip(net, 3):
        losses = net(clip)
        sum(losses.values()).backward()
    return losses, [p.grad for p in net.parameters()]


@pytest.mark.parametrize('memory', MEMORY_RULES)
@pytest.mark.parametrize('reentrant', [True, False])
def test_losses_and_gradients_are_those_without(memory, reentrant):
    clip = torch.randn(6, 3, 6, 6)
    losses, gradients = step(make(None, memory), clip)

    found, others = step(make(reentrant, memory), clip)

    torch.testing.assert_close(found, losses)
    torch.testing.assert_close(others, gradients)


@pytest.mark.parametrize('forwards', [1, 2])
def test_gradients_of_several_forwards_add_up(forwards):
    clips = torch.randn(forwards, 6, 3, 6, 6)
    gradients = []
    for reentrant in (None, True):
        net = make(reentrant)
        torch.manual_seed(1)
        with mmskip.clip(net, 3):
            sum(sum(net(clip).values()) for clip in clips).backward()
        gradients.append([p.grad for p in net.parameters()])

    torch.testing.assert_close(*gradients)


def test_a_loss_of_the_gates_on_its_own_is_refused():
    net = make(True, include='shared')

    with (
        pytest.raises(
            RuntimeError, match=r'1 that did not \(shared\).*sum of'
        ),
        mmskip.clip(net, 3),
    ):
        net(torch.randn(6, 3, 6, 6))['loss_gate'].backward()


def test_a_loss_of_the_gates_behind_the_others_is_refused():
    net = make(True, include='shared')

    with mmskip.clip(net, 3):
        losses = net(torch.randn(6, 3, 6, 6))
        losses['loss_task'].backward(retain_graph=True)
        with pytest.raises(RuntimeError, match='in the same backward'):
            losses['loss_gate'].backward()


def test_a_backward_behind_the_clip_is_refused():
    net = make(True)
    with mmskip.clip(net, 3):
        losses = net(torch.randn(6, 3, 6, 6))

    with pytest.raises(RuntimeError, match='move it inside'):
        sum(losses.values()).backward()

    # What is run as a plain model after that is one.
    sum(net.train(False)(torch.randn(2, 3, 6, 6)).values()).backward()


def test_layers_without_gradients_are_refused():
    class Frozen(Net):
        def run(self, block, x):
            with torch.no_grad():
                return block(x)

    net = Frozen()
    mmskip.convert(net, mmskip.SkipConversion(dict(type='GumbelGate')))
    GateCostLoss(beta=1.0).attach(net)

    with (
        pytest.raises(RuntimeError, match='Exclude them'),
        mmskip.clip(net, 3),
    ):
        sum(
            v for k, v in net(torch.randn(6, 3, 6, 6)).items() if 'loss' in k
        ).backward()


def test_a_failure_in_the_clip_is_what_is_raised():
    net = make(True, include='shared')

    def fail():
        net(torch.randn(6, 3, 6, 6))['loss_gate'].backward()
        raise ArithmeticError

    with pytest.raises(ArithmeticError), mmskip.clip(net, 3):
        fail()

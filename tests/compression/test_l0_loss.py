"""The loss that closes channels for good."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import mmskip
from mmskip import L0Conversion
from mmskip.compression import L0Loss
from mmskip.core import GateCost
from mmskip.reading import InputError
from mmskip.registry import build_own

# MACs of an image 8 x 8.
STEM, SHARED = 64 * 4 * 27, 64 * 4 * 36


class Model(nn.Module):
    """Two convolutions, one of them called twice, and a loss."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.shared = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        y = self.shared(self.shared(self.stem(x)))
        return dict(loss=y.square().mean()) if self.training else y


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = Model()
    mmskip.convert(model, L0Conversion())
    L0Loss(weight=0.5).attach(model)
    return model


def test_layers_weigh_as_much_as_they_compute(model):
    x = torch.randn(2, 3, 8, 8)
    nn.init.constant_(model.stem.gate.log_alpha, -1.0)
    p = model.stem.gate.open_probability()[0]
    q = model.shared.gate.open_probability()[0]

    losses = model(x)

    expected = (STEM * p + 2 * SHARED * q) / (STEM + 2 * SHARED)
    torch.testing.assert_close(losses['loss_l0'], 0.5 * expected)
    torch.testing.assert_close(losses['l0_cost_expected'], expected.detach())
    assert 0 <= losses['l0_cost_hard'] <= 1
    assert [k for k, v in losses.items() if v.requires_grad] == [
        'loss',
        'loss_l0',
    ]


def test_the_loss_closes_gates(model):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.3)
    x = torch.randn(2, 3, 8, 8)
    for _ in range(40):
        optimizer.zero_grad()
        model(x)['loss_l0'].backward()
        optimizer.step()

    with mmskip.count_macs(model.eval()) as macs:
        model(x)

    assert macs.total().executed == 0


def test_outside_of_training_there_is_no_loss(model):
    assert isinstance(model.eval()(torch.randn(1, 3, 8, 8)), torch.Tensor)


def test_a_copy_collects_for_itself(model):
    x = torch.randn(2, 3, 8, 8)
    other = copy.deepcopy(model)
    nn.init.constant_(other.stem.gate.log_alpha, -3.0)

    assert other(x)['loss_l0'] < model(x)['loss_l0']


def test_a_model_without_gates_is_refused():
    with pytest.raises(InputError, match='L0Conversion'):
        L0Loss(1.0).attach(Model())


def test_gates_of_layers_that_do_not_run_are_refused(model):
    model.forward = lambda x: dict(loss=x.sum())

    with pytest.raises(InputError, match='called none of its layers'):
        model(torch.randn(1, 3, 8, 8))


def step(model):
    torch.manual_seed(1)
    model.zero_grad()
    losses = model(torch.ones(2, 3, 8, 8, requires_grad=True))
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    return losses, {k: p.grad for k, p in model.named_parameters()}


def test_gates_of_frozen_layers_learn(model):
    losses, grads = step(model)

    model.stem.eval().requires_grad_(False)
    found, others = step(model)

    torch.testing.assert_close(found, losses)
    assert others.pop('stem.weight') is others.pop('stem.bias') is None
    torch.testing.assert_close(others, {k: grads[k] for k in others})


def test_activation_checkpointing_changes_nothing(model):
    expected = step(model)

    model.stem.forward = partial(
        checkpoint, model.stem.forward, use_reentrant=True
    )

    torch.testing.assert_close(step(model), expected)


def test_the_loss_does_not_depend_on_the_size_of_the_model():
    share = torch.tensor(0.25)
    small, large = (
        L0Loss(1.0)([GateCost(n, share, share)]) for n in (1, 10**12)
    )

    torch.testing.assert_close(small['loss_l0'], large['loss_l0'])


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match='weight >= 0'):
        build_own(dict(type='L0Loss', weight=-0.1))

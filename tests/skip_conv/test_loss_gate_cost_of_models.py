"""The cost of gates among a model's losses."""

import copy
import pickle

import pytest
import torch
from torch import nn

import mmskip
from mmskip import SkipConversion
from mmskip.reading import InputError
from mmskip.skip_conv import GateCostLoss


class Model(nn.Module):
    """Returns losses in training, a tensor in inference."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        x = self.conv(x)
        return dict(loss_task=x.square().mean()) if self.training else x


@pytest.fixture
def model():
    model = Model()
    gate = dict(type='GumbelGate', bias=2.0)
    mmskip.convert(model, SkipConversion(gate))
    GateCostLoss(beta=0.5).attach(model)
    return model


def test_training_returns_the_loss_beside_the_model_s_own(model):
    with mmskip.clip(model, 2):
        losses = model(torch.randn(4, 3, 5, 5))

    assert set(losses) == {
        'loss_task',
        'loss_gate',
        'gate_cost_expected',
        'gate_cost_hard',
    }
    expected = torch.tensor(2.0).sigmoid()
    torch.testing.assert_close(losses['gate_cost_expected'], expected)


def test_the_loss_closes_gates_and_nothing_else(model):
    with mmskip.clip(model, 2):
        model(torch.randn(4, 3, 5, 5))['loss_gate'].backward()

    assert model.conv.gate.bias.grad.item() > 0
    assert model.conv.weight.grad is None


def test_each_forward_starts_anew(model):
    with mmskip.clip(model, 2):
        first = model(torch.zeros(2, 3, 5, 5))['loss_gate']
        second = model(torch.zeros(2, 3, 5, 5))['loss_gate']

    torch.testing.assert_close(first, second)


def test_inference_is_left_alone(model):
    x = torch.randn(2, 3, 5, 5)

    with torch.no_grad():
        assert isinstance(model.eval()(x), torch.Tensor)


def test_training_without_clips_is_an_error_that_says_what_to_add(model):
    with pytest.raises(InputError, match='VideoHook'):
        model(torch.randn(2, 3, 5, 5))


@pytest.mark.parametrize(
    'duplicate', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_copies_keep_the_loss(model, duplicate):
    twin = duplicate(model)

    with mmskip.clip(twin, 2):
        assert 'loss_gate' in twin(torch.randn(2, 3, 5, 5))

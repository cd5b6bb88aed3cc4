"""The loss that makes dynamic convolutions compute less."""

import copy
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import mmskip
from mmskip.reading import InputError
from mmskip.va_red2 import DynamicCost, DynamicCostLoss
from mmskip.va_red2.layer import size_of_largest


class Model(nn.Module):
    """Returns losses in training, scores in inference."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(3, 8, (1, 3, 3))
        self.cls_head = nn.Linear(8, 2)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        scores = self.cls_head(self.conv(inputs).mean((2, 3, 4)))
        return dict(loss_cls=scores.sum() * 0) if self.training else scores


def samples(*labels):
    return [SimpleNamespace(gt_label=torch.tensor([y])) for y in labels]


@pytest.fixture
def model():
    model = Model()
    mmskip.convert(model, mmskip.DynamicConversion())
    # Always the class 0.
    model.cls_head.weight.data.zero_()
    model.cls_head.bias.data = torch.tensor([1.0, 0.0])
    DynamicCostLoss(0.5).attach(model)
    return model


@pytest.mark.parametrize(
    ('weights', 'size'),
    [([0.9, 0.1, 0.1], 1), ([0, 0.1, 0.3], 0.5), ([0, 0, 0.2], 0.25)],
)
def test_the_size_is_that_of_the_largest_open_option(weights, size):
    assert size_of_largest(torch.tensor([weights])).tolist() == [size]


def test_large_options_are_pushed_towards_zero_and_the_smallest_is_not():
    weights = torch.tensor([[0.5, 0.5, 0.5]], requires_grad=True)

    size_of_largest(weights).sum().backward()

    first, second, third = weights.grad[0].tolist()
    assert first > second > third == 0


def test_the_loss_is_that_of_eq_3_6():
    costs = [
        DynamicCost(300, torch.tensor([1.0, 0.5])),
        DynamicCost(100, torch.tensor([0.5, 0.25])),
    ]

    losses = DynamicCostLoss(0.8)(costs, torch.tensor([True, False]))

    share = (300 * 1 + 100 * 0.5) / 400
    assert losses['loss_dynamic'].item() == pytest.approx(0.4 * share**2)
    other = (300 * 0.5 + 100 * 0.25) / 400
    mean = (share + other) / 2
    assert losses['dynamic_share'].item() == pytest.approx(mean)


def test_frames_of_a_sample_are_averaged():
    costs = [DynamicCost(10, torch.tensor([1.0, 0.5, 0.5, 0.5]))]

    losses = DynamicCostLoss(1.0)(costs, torch.tensor([True, True]))

    expected = (0.75**2 + 0.5**2) / 2
    assert losses['loss_dynamic'].item() == pytest.approx(expected)


def test_only_samples_that_are_right_count(model):
    x = torch.randn(4, 3, 4, 6, 6)

    right = model(x, samples(0, 0, 0, 0), mode='loss')
    half = model(x, data_samples=samples(0, 1, 0, 1), mode='loss')

    assert right['loss_dynamic'].item() == pytest.approx(0.5)
    assert half['loss_dynamic'].item() == pytest.approx(0.25)
    assert half['dynamic_share'].item() == 1


def test_alone_it_closes_the_large_options_of_most_samples(model):
    x = torch.randn(4, 3, 4, 6, 6)
    optimizer = torch.optim.SGD(model.conv.gate.parameters(), lr=0.5)
    shares = []
    for _ in range(30):
        losses = model(x, samples(0, 0, 0, 0), mode='loss')
        shares.append(losses['dynamic_share'].item())
        optimizer.zero_grad()
        losses['loss_dynamic'].backward()
        optimizer.step()

    assert shares[0] == 1
    # A batch norm keeps samples apart: the last one may stay open.
    assert shares[-1] <= 0.5


def test_inference_is_left_alone_and_keeps_nothing(model):
    with torch.no_grad():
        assert isinstance(
            model.eval()(torch.randn(2, 3, 4, 6, 6)), torch.Tensor
        )
    assert model.conv._costs is None


def step(model):
    torch.manual_seed(1)
    nn.init.normal_(model.cls_head.weight)
    model.zero_grad()
    x = torch.randn(3, 3, 2, 5, 5, requires_grad=True)
    losses = model(x, samples(0, 0, 0))
    score = model.cls_head(model.conv(x).mean((2, 3, 4))).square().sum()
    (losses['loss_dynamic'] + score).backward()
    return losses, {k: p.grad for k, p in model.conv.named_parameters()}


def test_gates_and_maps_of_frozen_layers_learn(model):
    losses, grads = step(model)

    model.conv.eval().requires_grad_(False)
    found, others = step(model)

    torch.testing.assert_close(found, losses)
    assert others.pop('weight') is others.pop('bias') is None
    torch.testing.assert_close(others, {k: grads[k] for k in others})


def test_activation_checkpointing_changes_nothing(model):
    expected = step(model)

    model.conv.forward = partial(
        checkpoint, model.conv.forward, use_reentrant=True
    )

    torch.testing.assert_close(step(model), expected)


def test_copies_keep_the_loss(model):
    x = torch.randn(2, 3, 4, 6, 6)
    model(x, samples(0, 0), mode='loss')

    twin = copy.deepcopy(model)

    assert 'loss_dynamic' in twin(x, samples(0, 0), mode='loss')


def test_several_labels_are_refused(model):
    mixed = [SimpleNamespace(gt_label=torch.tensor([0.4, 0.6]))] * 2

    with pytest.raises(InputError, match='one label per sample'):
        model(torch.randn(2, 3, 4, 6, 6), mixed, mode='loss')


def test_a_model_without_the_head_is_refused():
    net = nn.Sequential(nn.Conv3d(3, 8, 3))
    mmskip.convert(net, mmskip.DynamicConversion())

    with pytest.raises(InputError, match='head='):
        DynamicCostLoss().attach(net)


def test_a_plain_model_is_refused():
    with pytest.raises(InputError, match='DynamicConversion'):
        DynamicCostLoss().attach(Model())

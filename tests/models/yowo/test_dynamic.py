"""YOWO on dynamic backbones."""

import pytest
import torch

import mmskip
from mmskip.va_red2 import DynamicCostLoss, force_routing
from tests.models.yowo.detectors import build, data


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = build()
    model.eval()
    with torch.no_grad():  # boxes that move with what is seen
        model.bbox_head.convs_pred[0].weight.mul_(30)
    conversion = mmskip.DynamicConversion()
    report = mmskip.convert(model, conversion, include=['backbone'])
    assert report.converted == ['backbone.conv.0', 'backbone.head']
    return model


def predict(model, batch):
    batch = {key: list(value) for key, value in batch.items()}
    with torch.no_grad():
        return [s.pred_instances for s in model.test_step(batch)]


def test_all_options_full_is_the_plain_detector(model):
    batch = data(2)
    with force_routing(model):
        dynamic = predict(model, batch)
    mmskip.revert(model)
    for one, other in zip(dynamic, predict(model, batch), strict=True):
        assert torch.allclose(one.bboxes, other.bboxes, atol=1e-4)
        assert torch.allclose(one.scores, other.scores, atol=1e-6)


def test_halves_cost_less_and_are_recorded(model):
    batch = data(2)
    with mmskip.record_routing(model) as full, force_routing(model):
        predict(model, batch)
    with mmskip.record_routing(model) as half, force_routing(model, 1, 1):
        predict(model, batch)
    assert len(half.sample_macs()) == 2
    assert (half.sample_macs() < full.sample_macs()).all()
    assert half.by_layer()['backbone.head'].channels.tolist() == [1, 1]


def test_clips_of_a_batch_choose_for_themselves(model):
    for layer in (model.backbone.conv[0], model.backbone.head):
        for weight in layer.gate.parameters():  # gates that are torn
            torch.nn.init.normal_(weight, std=2.0)
    batch = data(3)
    for clip, shade in zip(batch['inputs'], (1, 4, 40), strict=True):
        clip //= shade
    together = predict(model, batch)
    for index, one in enumerate(together):
        alone = {key: [value[index]] for key, value in batch.items()}
        (other,) = predict(model, alone)
        assert torch.allclose(one.bboxes, other.bboxes, atol=1e-3)
        assert torch.allclose(one.scores, other.scores, atol=1e-5)


def test_a_frozen_backbone_freezes_its_gates():
    model = build(freeze_backbone=True)
    mmskip.convert(model, mmskip.DynamicConversion(), include=['backbone'])
    model.train()
    batch = model.data_preprocessor(data(), training=True)
    model.parse_losses(model(**batch, mode='loss'))[0].backward()
    gates = [w for n, w in model.named_parameters() if '.gate.' in n]
    assert gates
    assert all(w.grad is None and not w.requires_grad for w in gates)
    assert not model.backbone.head.gate.training


def test_the_efficiency_loss_closes_gates(model):
    """It needs no scores that are right or wrong."""
    DynamicCostLoss(1.0, only_correct=False).attach(model)
    model.train()
    gates = [w for n, w in model.named_parameters() if '.gate.' in n]
    optimizer = torch.optim.Adam(gates, lr=0.05)
    shares = []
    for _ in range(12):
        batch = model.data_preprocessor(data(), training=True)
        losses = model(**batch, mode='loss')
        shares.append(losses['dynamic_share'].item())
        optimizer.zero_grad()
        losses['loss_dynamic'].backward()
        optimizer.step()
    assert {'loss_cls', 'loss_conf', 'loss_xy', 'loss_wh'} < set(losses)
    assert shares[-1] < 0.8 * shares[0]

"""mmaction2's spatio-temporal detector on boxes that are proposed."""

import math

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData

import mmskip
from mmskip.va_red2 import DynamicCostLoss, force_routing
from tests.models.yowo.detectors import CONFIGS, TinyBackbone, data

pytest.importorskip('mmdet')
pytest.importorskip('mmaction')

TOY = 'action-rcnn_r2plus1d_r18-w12_1xb8-8x1-12e_toy-jhmdb.py'
BOXES = ((20.0, 30.0, 44.0, 76.0), (60.0, 20.0, 100.0, 80.0))
CLASSES = 8


@pytest.fixture(autouse=True)
def _mmaction_scope():
    from mmaction.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield


def build(**head):
    """The toy config's detector on a tiny backbone."""
    cfg = Config.fromfile(CONFIGS / 'toy' / TOY).model
    backbone = TinyBackbone()
    cfg.backbone = ConfigDict(type=lambda: backbone)
    cfg.roi_head.bbox_head.update(in_channels=8, **head)
    model = MODELS.build(cfg)
    model.init_weights()
    return model


def clips(count=2, boxes=BOXES, label=3, proposals=None):
    """A batch whose proposals are those boxes, or the ground truth's."""
    batch = data(count, boxes, label)
    for sample in batch['data_samples']:
        proposed = boxes if proposals is None else proposals
        sample.proposals = InstanceData(
            bboxes=torch.tensor(proposed).view(-1, 4)
        )
    return batch


def losses_of(model, batch):
    return model(**model.data_preprocessor(batch, training=True), mode='loss')


def predict(model, batch):
    batch = {key: list(value) for key, value in batch.items()}
    with torch.no_grad():
        return [s.pred_instances for s in model.eval().test_step(batch)]


def test_it_is_the_stock_detector():
    from mmaction.models.roi_heads import AVARoIHead
    from mmdet.models import FastRCNN

    model = build()
    assert type(model) is FastRCNN
    assert isinstance(model.roi_head, AVARoIHead)


def test_the_loss_is_cross_entropy_of_the_boxes():
    model = build()
    torch.nn.init.zeros_(model.roi_head.bbox_head.fc_cls.weight)
    losses = losses_of(model.eval(), clips())
    assert losses['loss_action_cls'].item() == pytest.approx(math.log(CLASSES))


def test_only_proposals_that_hit_are_learned_from():
    """The ground truth itself is always among them."""
    model = build(dropout_ratio=0.0)
    batch = clips(1, BOXES[:1])
    there = losses_of(model, batch)['loss_action_cls']
    batch['data_samples'][0].proposals = InstanceData(
        bboxes=torch.tensor([[0.0, 0.0, 9.0, 9.0]])
    )
    elsewhere = losses_of(model, batch)['loss_action_cls']
    torch.testing.assert_close(there, elsewhere)


def test_a_step_teaches_backbone_and_head_and_leaves_the_data_alone():
    model = build().train()
    batch = model.data_preprocessor(clips(), training=True)
    total, logged = model.parse_losses(model(**batch, mode='loss'))
    total.backward()
    assert total == logged['loss_action_cls']
    assert all(w.grad.isfinite().all() for w in model.parameters())
    assert model.backbone.head.weight.grad.abs().sum() > 0
    for sample in batch['data_samples']:
        assert sample.gt_instances.labels.tolist() == [3, 3]
        assert sample.proposals.bboxes.shape == (2, 4)


def test_a_box_has_its_best_class_in_pixels_of_the_frame():
    model = build()
    seen = []
    model.roi_head.bbox_head.register_forward_hook(
        lambda *call: seen.append(call[-1])
    )
    found = predict(model, clips())
    probabilities = seen[0].softmax(-1).unflatten(0, (2, 2))
    for clip, expected in zip(found, probabilities, strict=True):
        # Half as wide, twice as high, by scale_factor.
        boxes = torch.tensor(BOXES) * torch.tensor([0.5, 2, 0.5, 2])
        assert torch.allclose(clip.bboxes, boxes, atol=1e-4)
        assert torch.equal(clip.labels, expected.argmax(-1))
        assert torch.allclose(clip.scores, expected.max(-1).values)


def test_frame_map_takes_the_results():
    from mmskip.evaluation import FrameMAP

    batch, metric = clips(), FrameMAP()
    metric.dataset_meta = dict(classes=tuple('abcdefgh'))
    with torch.no_grad():
        samples = [s.to_dict() for s in build().eval().test_step(batch)]
    assert samples[0]['gt_instances']['labels'].tolist() == [3, 3]
    metric.process({}, samples)
    figures = metric.evaluate(2)
    assert figures['frame/recall'] == 100  # ground truth was proposed


def test_results_do_not_depend_on_the_batch():
    model, batch = build(), clips(3)
    together = predict(model, batch)
    for index, one in enumerate(together):
        alone = {key: [value[index]] for key, value in batch.items()}
        (other,) = predict(model, alone)
        assert torch.allclose(one.scores, other.scores, atol=1e-6)
        assert torch.equal(one.bboxes, other.bboxes)


def test_where_nobody_is_proposed_nobody_is_found():
    model, batch = build(), clips(2)
    batch['data_samples'][1].proposals = InstanceData(bboxes=torch.ones(0, 4))
    for some in (batch, {key: value[1:] for key, value in batch.items()}):
        nobody = predict(model, some)[-1]
        assert nobody.bboxes.shape == (0, 4)
        assert len(nobody.labels) == len(nobody.scores) == 0


def test_it_learns_who_does_what():
    """Two persons of one frame, told apart by brightness."""
    model = build(dropout_ratio=0.0).train()
    batch = clips(2)
    for flip, sample in enumerate(batch['data_samples']):
        shades, labels = ((40, 200), (1, 5)), [1, 5]
        if flip:
            shades, labels = ((200, 40), (5, 1)), [5, 1]
        sample.gt_instances.labels = torch.tensor(labels)
        batch['inputs'][flip][:] = 120
        for (x1, y1, x2, y2), shade in zip(BOXES, shades[0], strict=True):
            area = slice(int(y1), int(y2)), slice(int(x1), int(x2))
            batch['inputs'][flip][(..., *area)] = shade
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        losses = losses_of(model, {k: list(v) for k, v in batch.items()})
        optimizer.zero_grad()
        losses['loss_action_cls'].backward()
        optimizer.step()
    found = predict(model, batch)
    assert [one.labels.tolist() for one in found] == [[1, 5], [5, 1]]


def test_a_dynamic_backbone_saves_macs():
    model = build().eval()
    batch = clips(2)
    with mmskip.count_macs(model) as plain:
        predict(model, batch)
    report = mmskip.convert(model, mmskip.DynamicConversion())
    assert report.converted == ['backbone.conv.0', 'backbone.head']
    with mmskip.count_macs(model) as half, force_routing(model, 1, 1):
        predict(model, batch)
    assert not plain.uncounted()
    assert not half.uncounted()
    layers = plain.by_module()
    # Two boxes of two clips.
    assert layers['roi_head.bbox_head.fc_cls'].executed == 4 * 8 * CLASSES
    assert half.total().dense == plain.total().executed
    assert half.total().executed < 0.6 * plain.total().executed


def test_the_efficiency_loss_needs_no_correctness():
    model = build().train()
    mmskip.convert(model, mmskip.DynamicConversion(), include=['backbone'])
    DynamicCostLoss(only_correct=False).attach(model)
    losses = losses_of(model, clips())
    assert {'loss_action_cls', 'loss_dynamic'} <= set(losses)
    losses['loss_dynamic'].backward()
    gates = [w for n, w in model.named_parameters() if '.gate.' in n]
    assert any(w.grad is not None and w.grad.any() for w in gates)


@pytest.mark.parametrize('option', ['multilabel', 'background_class'])
def test_a_head_for_ava_is_refused(option):
    with pytest.raises(ValueError, match='multilabel=False'):
        build(**{option: True})

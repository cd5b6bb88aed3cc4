"""The head: what levels share and what they do not."""

import pytest
import torch
from mmengine.structures import InstanceData
from torch import nn

pytest.importorskip('mmdet')

from mmskip.models import EfficientDetHead
from tests.models.efficientdet.detectors import tiny_config


@pytest.fixture
def head():
    detector = tiny_config()
    keys = detector.bbox_head
    keys.pop('type')
    keys.update(in_channels=8, num_levels=3, train_cfg=detector.train_cfg)
    keys.anchor_generator.strides = [8, 16, 32]
    head = EfficientDetHead(**keys)
    head.init_weights()
    return head


def levels(batch=2):
    return [torch.randn(batch, 8, s, s) for s in (8, 4, 2)]


def test_shapes(head):
    logits, deltas = head(levels())
    sizes = [(8, 8), (4, 4), (2, 2)]
    assert [tuple(x.shape) for x in logits] == [(2, 9 * 2, *s) for s in sizes]
    assert [tuple(x.shape) for x in deltas] == [(2, 9 * 4, *s) for s in sizes]


def test_every_level_has_its_own_statistics(head):
    feats = levels()
    feats[1] = feats[1] * 5 + 3
    head.train()(feats)
    for convs, norms in (
        (head.cls_convs, head.cls_norms),
        (head.reg_convs, head.reg_norms),
    ):
        assert len(norms) == len(convs) == 2
        for level, norm in enumerate(norms[0]):
            mean = convs[0](feats[level]).mean((0, 2, 3))
            torch.testing.assert_close(norm.running_mean, 0.01 * mean)


def test_only_norms_differ_between_levels(head):
    names = [name for name, _ in head.named_parameters()]
    convs = [m for m in head.modules() if isinstance(m, nn.Conv2d)]
    assert len({id(p) for p in head.parameters()}) == len(names)
    assert len(convs) == 2 * 2 * (2 + 1)
    norms = [m for m in head.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 2 * 2 * 3


def test_classes_are_improbable_at_first(head):
    logits, _ = head.eval()([torch.zeros_like(x) for x in levels()])
    for x in logits:
        torch.testing.assert_close(x.sigmoid(), torch.full_like(x, 0.01))


def test_anchors_are_three_scales_of_three_ratios(head):
    anchors = head.prior_generator.base_anchors[0]
    assert anchors.shape == (9, 4)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    torch.testing.assert_close(centres, torch.full_like(centres, 4.0))
    width, height = (anchors[:, 2:] - anchors[:, :2]).unbind(1)
    scales = 8 * 4 * 2 ** (torch.arange(3) / 3)
    torch.testing.assert_close(
        (width * height).sqrt(), scales.repeat_interleave(3)
    )
    torch.testing.assert_close(
        height / width, torch.tensor([1.0, 0.5, 2.0]).repeat(3)
    )


def test_another_number_of_levels_is_refused(head):
    with pytest.raises(ValueError, match='expected 3 levels, got 2'):
        head(levels()[:2])


def losses(head):
    torch.manual_seed(0)
    boxes = torch.tensor([[8.0, 8.0, 40.0, 40.0], [20.0, 4.0, 60.0, 50.0]])
    truth = [
        InstanceData(bboxes=boxes, labels=torch.tensor([0, 1]))
        for _ in range(2)
    ]
    metas = [dict(img_shape=(64, 64), pad_shape=(64, 64))] * 2
    found = head.eval().loss_by_feat(*head(levels()), truth, metas)
    return {name: sum(parts) for name, parts in found.items()}


def test_positives_are_counted_over_all_processes(head, monkeypatch):
    alone = losses(head)

    # The other process has as many again and a half: 1.25 times the mean.
    monkeypatch.setattr(
        'mmskip.models.efficientdet.reduce_mean',
        lambda count: 1.25 * count,
    )
    together = losses(head)

    assert {*together} == {'loss_cls', 'loss_bbox'}
    for name, loss in together.items():
        assert loss > 0
        torch.testing.assert_close(loss, alone[name] / 1.25)

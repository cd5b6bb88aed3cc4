"""mmdet's SSD head cannot predict."""

import sys
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import ConfigDict

from mmskip.compat import let_ssd_head_predict
from mmskip.compat.packages import SSD_HEAD


def test_ssd_predicts():
    ssd_head = pytest.importorskip(SSD_HEAD)
    head = ssd_head.SSDHead(
        num_classes=2,
        in_channels=(8,),
        anchor_generator=dict(
            type='mmdet.SSDAnchorGenerator',
            scale_major=False,
            strides=[16],
            ratios=[[2]],
            min_sizes=[16],
            max_sizes=[32],
        ),
        bbox_coder=dict(type='mmdet.DeltaXYWHBBoxCoder'),
        test_cfg=ConfigDict(
            nms_pre=10,
            score_thr=0,
            nms=dict(type='nms', iou_threshold=0.5),
            max_per_img=10,
        ),
    )
    outputs = head([torch.randn(1, 8, 4, 4)])
    metas = [dict(img_shape=(64, 64), scale_factor=(1, 1))]
    found = head.predict_by_feat(*outputs, batch_img_metas=metas)
    assert len(found[0]) > 0


def test_a_head_with_a_loss_keeps_it(monkeypatch):
    class SSDHead:
        def __init__(self):
            self.loss_cls = 'a loss'

    monkeypatch.setitem(
        sys.modules, SSD_HEAD, SimpleNamespace(SSDHead=SSDHead)
    )
    let_ssd_head_predict()
    assert SSDHead().loss_cls == 'a loss'


def test_a_head_without_a_loss_is_mended_once(monkeypatch):
    class SSDHead:
        pass

    monkeypatch.setitem(
        sys.modules, SSD_HEAD, SimpleNamespace(SSDHead=SSDHead)
    )
    let_ssd_head_predict()
    mended = SSDHead.__init__
    let_ssd_head_predict()
    assert SSDHead.__init__ is mended
    assert SSDHead().loss_cls is None

"""Stock detectors, converted by a config of ours, watch a video."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import mmskip
from mmskip.core.convert import ROI_REASON
from mmskip.registry import build_own
from tests.hosts.host import (
    assert_identical,
    assert_one_frame,
    assert_same,
    assert_stock,
    build_host,
    dense_macs,
    is_converted,
    noise,
    random_walk,
)

structures = pytest.importorskip('mmdet.structures')

FRAMES = 3
RCNN = 'faster-rcnn_r50_fpn_1x_coco'
SIZES = {
    'retinanet_r18_fpn_1x_coco': 64,
    'retinanet_effb3_fpn_8xb4-crop896-1x_coco': 64,
    'fcos_r50-caffe_fpn_gn-head_1x_coco': 64,
    'yolox_tiny_8xb8-300e_coco': 64,
    'ssdlite_mobilenetv2-scratch_8xb24-600e_coco': 96,
    RCNN: 64,
}


@pytest.fixture(scope='module', params=SIZES)
def video(request):
    """A detector and its frames, with the dense model's results."""
    name, size = request.param, SIZES[request.param]
    options = {'model.test_cfg.rpn.max_per_img': 10} if name == RCNN else {}

    def warm_up(model):
        # Two images: a level of one pixel has no variance in one.
        features = model.extract_feat(noise(2, 3, size, size))
        if name != RCNN:
            model.bbox_head(features)

    host = build_host('detection', name, warm_up, options)
    video = SimpleNamespace(
        host=host,
        frames=random_walk(FRAMES, 1, 3, size, size),
        raw=record_raw(host.model),
        stock_raw=record_raw(host.stock),
    )
    video.macs = dense_macs(detect, host.stock, video.frames[0])
    video.stock_raw.clear()
    video.stock_detections = [detect(host.stock, f) for f in video.frames]
    return video


def detect(model, frame):
    size = tuple(frame.shape[2:])
    sample = structures.DetDataSample(
        metainfo=dict(
            img_shape=size,
            ori_shape=size,
            pad_shape=size,
            batch_input_shape=size,
            scale_factor=(1.0, 1.0),
        )
    )
    return model(frame, [sample], mode='predict')[0].pred_instances


def record_raw(model):
    """Record what the heads return; hand it on as NMS takes it, in single."""
    raw = []

    def record(head, inputs, outputs):
        raw.append(outputs)
        return to_single(outputs)

    if hasattr(model, 'rpn_head'):
        model.rpn_head.register_forward_hook(record)
        model.roi_head.bbox_head.register_forward_hook(record)
        model.roi_head.bbox_roi_extractor.register_forward_pre_hook(
            lambda _, inputs: (inputs[0], inputs[1].double())
        )
    else:
        model.bbox_head.register_forward_hook(record)
    return raw


def to_single(outputs):
    if isinstance(outputs, torch.Tensor):
        return outputs.float()
    return type(outputs)(to_single(part) for part in outputs)


def test_is_the_stock_model(video):
    assert_stock(video.host)


def test_unbound_equals_stock_bit_for_bit(video):
    video.raw.clear()
    detect(video.host.model, video.frames[0])
    assert_identical(video.raw, video.stock_raw[: len(video.raw)])


def test_open_gates_equal_dense_on_every_frame(video):
    model = video.host.model
    video.raw.clear()
    with video.host.open_gates(), mmskip.stream(model):
        detections = [detect(model, frame) for frame in video.frames]
    assert_same(video.raw, video.stock_raw)
    for ours, theirs in zip(detections, video.stock_detections, strict=True):
        assert len(ours) == len(theirs) > 0
        assert torch.equal(ours.labels, theirs.labels)
        torch.testing.assert_close(ours.scores, theirs.scores)
        torch.testing.assert_close(ours.bboxes, theirs.bboxes)


def test_a_static_video_costs_one_frame(video):
    model = video.host.model
    video.raw.clear()
    with mmskip.count_macs(model) as macs, mmskip.stream(model):
        for _ in range(FRAMES):
            detect(model, video.frames[0])
    assert_one_frame(video.host, macs, FRAMES, FRAMES * video.macs)
    first = video.raw[: len(video.raw) // FRAMES]
    assert_identical(video.raw, first * FRAMES)


@pytest.mark.parametrize(
    ('bbox_head', 'convs'),
    [('Shared2FCBBoxHead', 0), ('Shared4Conv1FCBBoxHead', 4)],
)
def test_the_roi_head_stays_dense_and_is_reported(bbox_head, convs):
    options = {'model.roi_head.bbox_head.type': bbox_head}
    host = build_host('detection', RCNN, options=options)
    conversion = build_own(host.cfg.model.conversions[0])
    report = mmskip.convert(host.stock, conversion)
    roi_layers = {
        f'roi_head.{name}': module
        for name, module in host.stock.roi_head.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    }
    assert set(report.left_dense) == set(roi_layers)
    assert [
        name
        for name, reason in report.left_dense.items()
        if reason == ROI_REASON
    ] == [f'roi_head.bbox_head.shared_convs.{i}.conv' for i in range(convs)]
    assert not any(is_converted(module) for module in roi_layers.values())
    assert 'rpn_head.rpn_conv' in report.converted

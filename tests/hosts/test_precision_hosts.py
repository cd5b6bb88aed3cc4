"""Stock models of the hosts run in bfloat16 and int8 without skipping."""

import copy
from collections import Counter

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS

import mmskip
from mmskip.native import library as native
from tests.helpers.stir import stir
from tests.hosts.host import default_scope, tensors, without_downloads
from tests.hosts.test_propagated_hosts import POSE, RETINA, YOLOX

#: The largest error of outputs, as a share of their norm.
MOST = dict(bfloat16=0.05, int8=0.2)
RESNET = dict(depth=18, base_channels=8)
RTMDET = 'rtmdet/rtmdet_tiny_8xb32-300e_coco'
NARROW = {
    'model.backbone.deepen_factor': 0.17,
    'model.backbone.widen_factor': 0.125,
    'model.neck.in_channels': [32, 64, 128],
    'model.neck.out_channels': 16,
    'model.bbox_head.in_channels': 16,
    'model.bbox_head.feat_channels': 16,
    'model.bbox_head.num_classes': 5,
}


def error(one, other):
    return ((one - other).norm() / other.norm()).item()


def flat(outputs):
    return torch.cat([x.flatten() for x in outputs])


def build(host, config, options=None):
    utils = pytest.importorskip(f'{host}.utils')
    utils.register_all_modules(init_default_scope=False)
    if isinstance(config, str):
        path, _ = Config._get_cfg_path(f'{host}::{config}.py', '')
        config = Config.fromfile(path)
        config.merge_from_dict(options or {})
        config = without_downloads(config.model)
    torch.manual_seed(0)
    with default_scope(host):
        model = MODELS.build(copy.deepcopy(config))
    return stir(revert_sync_batchnorm(model))


def lowered(model, precision, frames):
    low = copy.deepcopy(model)
    given = [[(x, None) for x in frames]] if precision == 'int8' else []
    return low, mmskip.accelerate(low, precision, *given)


HOSTS = {
    'retinanet': ('mmdet', RETINA),
    'yolox': ('mmdet', YOLOX),
    'rtmdet': ('mmdet', RTMDET, NARROW),
    'hrnet': ('mmpose', POSE),
}


@pytest.mark.parametrize('precision', MOST)
@pytest.mark.parametrize('name', HOSTS)
@torch.no_grad()
def test_plain_models_stay_near_float32(name, precision):
    model = build(*HOSTS[name])
    frames = [torch.randn(1, 3, 64, 64) for _ in range(3)]
    expected = tensors(model(frames[0], None))

    low, report = lowered(model, precision, frames)

    outputs = tensors(low(frames[0], None))
    assert {x.dtype for x in outputs} == {torch.float32}
    assert error(flat(outputs), flat(expected)) < MOST[precision]
    counts = Counter(report.dense.layers.values())
    assert counts[precision] > 0.8 * counts.total()
    assert not report.dense.left
    assert report.dense.frames[''] == {'from end to end': 1}


TINY = {
    'model.backbone': RESNET,
    'model.neck.in_channels': [8, 16, 32, 64],
    'model.neck.out_channels': 16,
    'model.rpn_head.in_channels': 16,
    'model.rpn_head.feat_channels': 16,
    'model.roi_head.bbox_roi_extractor.out_channels': 16,
    'model.roi_head.mask_roi_extractor.out_channels': 16,
    'model.roi_head.bbox_head.in_channels': 16,
    'model.roi_head.bbox_head.fc_out_channels': 64,
    'model.roi_head.bbox_head.num_classes': 5,
    'model.roi_head.mask_head.in_channels': 16,
    'model.roi_head.mask_head.conv_out_channels': 16,
    'model.roi_head.mask_head.num_classes': 5,
    'model.test_cfg.rpn.max_per_img': 20,
}
HEADS = {
    'bbox_head.shared_fcs.0': 'int8',
    'bbox_head.shared_fcs.1': 'int8',
    'bbox_head.fc_cls': 'int8',
    'bbox_head.fc_reg': 'int8',
    **{f'mask_head.convs.{i}.conv': 'int8' for i in range(4)},
    'mask_head.upsample': 'bfloat16',
    'mask_head.conv_logits': 'int8',
}


@torch.no_grad()
def boxes_and_masks(model, frame, proposals, structures):
    """What the heads make of the same proposals, before any is dropped."""
    size = tuple(frame.shape[2:])
    meta = dict(img_shape=size, scale_factor=(1.0, 1.0), ori_shape=size)
    given = structures.InstanceData(
        bboxes=proposals, scores=proposals.new_ones(len(proposals))
    )
    features = model.extract_feat(frame)
    head = model.roi_head
    (found,) = head.predict_bbox(features, [meta], [given], None)
    rois = torch.cat([proposals.new_zeros(len(proposals), 1), proposals], 1)
    masks = head._mask_forward(features, rois)['mask_preds']
    return found.bboxes, found.scores, masks


@pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)
@pytest.mark.parametrize('precision', MOST)
@torch.no_grad()
def test_heads_on_boxes_agree_beside_a_plan(precision):
    structures = pytest.importorskip('mmengine.structures')
    model = build('mmdet', 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco', TINY)
    gate = dict(type='InputNormGate', threshold=0.0)
    mmskip.convert(model, mmskip.SkipConversion(gate, memory='accumulated'))
    frames = [torch.randn(1, 3, 64, 64) for _ in range(3)]
    torch.manual_seed(1)
    corners, sizes = torch.rand(2, 12, 2) * 32
    proposals = torch.cat([corners, corners + sizes + 1], 1)
    run = (proposals, structures)
    # Calibrated on what the heads read, too.
    forward = copy.deepcopy(model)
    forward.forward = lambda x: boxes_and_masks(forward, x, *run)
    expected = [forward(x) for x in frames]
    calibration = []
    if precision == 'int8':
        mmskip.fold(model)
        twin = copy.deepcopy(model)
        twin.forward = lambda x: boxes_and_masks(twin, x, *run)
        made = mmskip.plan.calibrate(twin, frames)
        calibration = [mmskip.plan.Calibration(made.grids, 1.0)]

    report = mmskip.accelerate(model, precision, *calibration)

    outputs = [boxes_and_masks(model, x, *run) for x in frames]
    for ours, theirs in zip(outputs, expected, strict=True):
        boxes, scores, masks = zip(ours, theirs, strict=True)
        assert (boxes[0] - boxes[1]).abs().max() < 64 * MOST[precision]
        assert (scores[0] - scores[1]).abs().max() < MOST[precision]
        assert error(*masks) < MOST[precision]
    heads = {
        name.removeprefix('roi_head.'): value
        for name, value in report.dense.layers.items()
        if name.startswith('roi_head')
    }
    wanted = HEADS if precision == 'int8' else dict.fromkeys(HEADS, precision)
    assert heads == wanted
    for part in ('roi_head.bbox_head', 'roi_head.mask_head'):
        assert report.dense.frames[part]['from end to end'] == len(frames)

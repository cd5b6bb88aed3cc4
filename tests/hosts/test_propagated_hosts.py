"""Stock models of the hosts propagate changes, whole or in parts."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS

import mmskip
from mmskip.native import library as native
from mmskip.skip_conv import SkipConvMixin
from tests.helpers.twins import NORM, patched, twins
from tests.hosts.host import default_scope

pytestmark = pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)
RESNET = dict(type='ResNet', depth=18, base_channels=4, out_indices=(1, 2, 3))
FPN = dict(
    type='FPN',
    in_channels=[8, 16, 32],
    out_channels=8,
    num_outs=5,
    start_level=0,
    add_extra_convs='on_input',
)
RETINA = dict(
    type='RetinaNet',
    data_preprocessor=dict(type='DetDataPreprocessor'),
    backbone=RESNET,
    neck=FPN,
    bbox_head=dict(
        type='RetinaHead',
        num_classes=3,
        in_channels=8,
        feat_channels=8,
        stacked_convs=2,
        anchor_generator=dict(
            type='AnchorGenerator',
            octave_base_scale=4,
            scales_per_octave=3,
            ratios=[0.5, 1.0, 2.0],
            strides=[8, 16, 32, 64, 128],
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
    ),
)
YOLOX = dict(
    type='YOLOX',
    data_preprocessor=dict(type='DetDataPreprocessor'),
    backbone=dict(type='CSPDarknet', deepen_factor=0.33, widen_factor=0.125),
    neck=dict(
        type='YOLOXPAFPN',
        in_channels=[32, 64, 128],
        out_channels=16,
        num_csp_blocks=1,
    ),
    bbox_head=dict(
        type='YOLOXHead', num_classes=3, in_channels=16, feat_channels=16
    ),
)
WIDTHS = [(4,), (4, 8), (4, 8, 16), (4, 8, 16, 32)]
HRNET = dict(
    type='HRNet',
    extra={
        f'stage{number}': dict(
            num_modules=1,
            block='BOTTLENECK' if number == 1 else 'BASIC',
            num_branches=len(widths),
            num_blocks=(1,) * len(widths),
            num_channels=widths,
        )
        for number, widths in enumerate(WIDTHS, 1)
    },
)
POSE = dict(
    type='TopdownPoseEstimator',
    data_preprocessor=dict(type='PoseDataPreprocessor'),
    backbone=HRNET,
    head=dict(
        type='HeatmapHead',
        in_channels=4,
        out_channels=5,
        deconv_out_channels=None,
        decoder=dict(
            type='MSRAHeatmap',
            input_size=(64, 64),
            heatmap_size=(16, 16),
            sigma=2,
        ),
    ),
)
HOSTS = {
    'retinanet': ('mmdet', RETINA, 0.0),
    'yolox': ('mmdet', YOLOX, 1e-4),
    'hrnet': ('mmpose', POSE, 0.0),
}


@pytest.fixture(params=HOSTS)
def both(request):
    """A tiny model of a host, and its copy that propagates changes."""
    host, config, tolerance = HOSTS[request.param]
    utils = pytest.importorskip(f'{host}.utils')
    utils.register_all_modules(init_default_scope=False)
    with default_scope(host):
        model = MODELS.build(config)
    gate = dict(NORM, threshold=0.02, relative=True)
    return twins(model, gate, 'previous', tolerance=tolerance)


def test_a_host_computes_what_it_does_without(both):
    x = torch.randn(2, 3, 64, 64)
    video = [x, patched(x, 1, 8)]
    video += [video[-1], video[-1], patched(video[-1], 2, 8), x, x]

    for index, frame in enumerate(video):
        if index == 4:
            both.count(frame, None)
        both.show(frame, None)

    layers = [m for m in both.plain.modules() if isinstance(m, SkipConvMixin)]
    backbone = set(both.propagated.backbone.modules())
    planned = {conv.layer for plan in both.plans for conv in plan.convs}
    assert len(planned & backbone) > 0.9 * sum(
        isinstance(m, SkipConvMixin) for m in backbone
    )
    assert len(planned) > len(layers) / 2
    masks = both.states[1].last_masks().values()
    assert not any(mask.any() for mask in masks)


def test_a_detector_that_is_given_data_samples_has_plans():
    structures = pytest.importorskip('mmdet.structures')
    pytest.importorskip('mmdet.utils').register_all_modules(
        init_default_scope=False
    )
    kept = ConfigDict(nms_pre=100, min_bbox_size=0, score_thr=0.05)
    kept.update(nms=dict(type='nms', iou_threshold=0.5), max_per_img=9)
    with default_scope('mmdet'):
        model = MODELS.build(dict(RETINA, test_cfg=kept))
    both = twins(model, dict(NORM, threshold=0.02, relative=True))
    sample = structures.DetDataSample(
        metainfo=dict(img_shape=(64, 64), scale_factor=(1.0, 1.0))
    )
    x = torch.randn(1, 3, 64, 64)

    for frame in (x, patched(x, 1, 8), x):
        results = []
        for net, state in zip(both.nets, both.states, strict=True):
            with torch.no_grad(), mmskip.stream(net, state):
                results.append(net(frame.clone(), [sample], mode='predict'))
        boxes = [r[0].pred_instances.bboxes for r in results]
        assert torch.equal(*boxes)

    assert {plan.runs for plan in both.plans} == {2}
    assert len(both.plans) == 3

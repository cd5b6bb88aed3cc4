"""Stock models of the hosts compute the same when they are folded."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS

import mmskip
from tests.helpers.stir import is_norm, stir
from tests.hosts.host import default_scope, tensors, without_downloads

FRAME = (1, 3, 64, 64)
#: How many batch norms may stay: of layers with several.
MODELS_OF = {
    'mmdet': {
        'rtmdet/rtmdet_tiny_8xb32-300e_coco': (FRAME, 12),
        'yolox/yolox_tiny_8xb8-300e_coco': (FRAME, 0),
        'retinanet/retinanet_r18_fpn_1x_coco': (FRAME, 0),
        'ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco': (FRAME, 0),
        'efficientnet/retinanet_effb3_fpn_8xb4-crop896-1x_coco': (FRAME, 40),
    },
    'mmpose': {
        'body_2d_keypoint/topdown_heatmap/coco/'
        'td-hm_litehrnet-18_8xb64-210e_coco-256x192': (FRAME, 0),
        'body_2d_keypoint/topdown_heatmap/coco/'
        'td-hm_shufflenetv2_8xb64-210e_coco-256x192': (FRAME, 0),
        'body_2d_keypoint/topdown_heatmap/coco/'
        'td-hm_hrnet-w32_8xb64-210e_coco-256x192': (FRAME, 0),
    },
    'mmaction': {
        'recognition/tsm/tsm_imagenet-pretrained-mobilenetv2_8xb16-1x1x8-'
        '100e_kinetics400-rgb': ((1, 8, 3, 64, 64), 0),
        'recognition/slowonly/'
        'slowonly_r50_8xb16-4x16x1-256e_kinetics400-rgb': (
            (1, 1, 3, 4, 32, 32),
            0,
        ),
        'recognition/x3d/x3d_s_13x6x1_facebook-kinetics400-rgb': (
            (1, 1, 3, 4, 32, 32),
            0,
        ),
    },
}
CASES = [
    pytest.param(host, name, *case, id=name.rpartition('/')[2])
    for host, models in MODELS_OF.items()
    for name, case in models.items()
]


def build(host, name):
    utils = pytest.importorskip(f'{host}.utils')
    utils.register_all_modules(init_default_scope=False)
    cfg = Config.fromfile(Config._get_cfg_path(f'{host}::{name}.py', '')[0])
    with default_scope(host):
        model = MODELS.build(without_downloads(cfg.model))
    return stir(revert_sync_batchnorm(model))


def run(host, model, x):
    options = dict(stage='head') if host == 'mmaction' else {}
    return tensors(model(x, None, **options))


@pytest.mark.parametrize(('host', 'name', 'shape', 'left'), CASES)
def test_outputs_stay(host, name, shape, left):
    model = build(host, name)
    x = torch.randn(shape)
    expected = run(host, model, x)
    before = sum(map(is_norm, model.modules()))

    report = mmskip.fold(model)

    assert sum(map(is_norm, model.modules())) == len(report.left) == left
    assert len(report.norms) == before - left
    for found, wanted in zip(run(host, model, x), expected, strict=True):
        error = (found - wanted).abs().max()
        assert error <= 1e-4 * wanted.abs().max()


def test_a_converted_detector_keeps_its_outputs_and_macs():
    model = build('mmdet', 'rtmdet/rtmdet_tiny_8xb32-300e_coco')
    gate = dict(type='OutputNormGate', threshold=0.1, relative=True)
    mmskip.convert(model, mmskip.SkipConversion(gate))
    folded = copy.deepcopy(model)
    report = mmskip.fold(folded)
    video = [torch.randn(FRAME)]
    video.append(video[0].clone())
    video[1][..., :16, :16] += 1
    outputs, macs = [], []
    for net in (model, folded):
        with mmskip.stream(net), mmskip.count_macs(net) as count:
            outputs.append([run('mmdet', net, x) for x in video])
        macs.append(count.total())

    left = [name for name in report.left if name.endswith('.bn')]
    assert (len(report.norms), len(left)) == (64, 12)
    assert len(report.activations) == 64
    assert macs[0].dense == macs[1].dense
    assert abs(macs[0].executed / macs[1].executed - 1) < 1e-3
    for one, other in zip(*outputs, strict=True):
        for wanted, found in zip(one, other, strict=True):
            error = (found - wanted).abs().max()
            assert error <= 1e-3 * wanted.abs().max()

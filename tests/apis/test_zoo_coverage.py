"""Models are converted for most of their MACs, or named with the reason."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config

from mmskip.apis import ZooModel, cover_model
from mmskip.apis.zoo import ENOUGH
from tests.apis.zoo.models import deformable, detector, resnet

POSE = 'body_2d_keypoint/topdown_heatmap/coco/'
JOINT = 'recognition/timesformer/timesformer_jointST'
MVIT = 'recognition/mvit/mvit-small-p244'
VIDEOMAE = 'recognition/videomae/vit-base-p16_videomae-k400-pre'
SAMPLE = [
    ('mmdet', 'dcn/mask-rcnn_r50-dconv-c3-c5_fpn_1x_coco'),
    ('mmdet', 'pvt/retinanet_pvt-t_fpn_1x_coco'),
    ('mmdet', 'yolox/yolox_tiny_8xb8-300e_coco'),
    ('mmpose', f'{POSE}td-hm_pvt-s_8xb64-210e_coco-256x192'),
    ('mmaction', f'{JOINT}_8xb8-8x32x1-15e_kinetics400-rgb'),
    ('mmaction', f'{MVIT}_32xb16-16x4x1-200e_kinetics400-rgb'),
    ('mmaction', f'{VIDEOMAE}_16x4x1_kinetics-400'),
]
PAGE = Path(__file__).resolve().parents[2] / 'docs' / 'zoo.md'


def cover(host, model, tmp_path):
    """Cover a model that a config file describes."""
    pytest.importorskip(f'{host}.models')
    path = tmp_path / 'model.py'
    Config(dict(model=model)).dump(path)
    (row,) = cover_model(ZooModel(host, (str(path),)))
    return row


def test_a_model_of_convolutions_is_converted(tmp_path):
    row = cover('mmdet', detector(resnet()), tmp_path)

    assert row.status == 'converted'
    assert row.mode == 'coverage'
    assert (row.share, row.whole, row.dense) == (1, 1, {})
    assert row.size == '1x3x800x1333'  # where a config does not tell


def test_what_stays_dense_is_told_with_its_share(tmp_path):
    backbone = resnet(**deformable('DCN'))

    row = cover('mmdet', detector(backbone), tmp_path)

    # MACs of 3x3 convolutions in stages 3 and 4, whose blocks are 6 and 3, of
    # 16 and 32 channels, on pictures of 96x96 that are 6x6 and 3x3 there.
    deformed = 9 * (6 * 16**2 * 6**2 + 3 * 32**2 * 3**2)
    (what,) = row.dense
    total = deformed / row.dense[what]
    assert what.startswith('DeformConv2dPack: ')
    assert row.size == '1x3x96x96'  # mmcv's operator computes nothing else
    assert row.share == pytest.approx(1 - row.dense[what])
    assert total == pytest.approx(round(total))
    assert row.whole > row.share  # there is more in the head


def test_a_model_with_nothing_to_convert_says_why(tmp_path):
    model = dict(
        type='PoseLifter',
        backbone=dict(type='TCN', in_channels=4, stem_channels=8),
        head=dict(
            type='TemporalRegressionHead',
            in_channels=8,
            num_joints=2,
            loss=dict(type='MPJPELoss'),
        ),
    )

    row = cover('mmpose', model, tmp_path)

    assert row.status == 'refused'
    assert 'Conv1d is not a class known to only convolve' in row.reason


def told_below(host):
    """Shares, in percent, of the models that the page names as below."""
    title = 'mmaction2' if host == 'mmaction' else host
    page = PAGE.read_text()
    section = page.partition(f'### {title}: below 80 %')[2].partition('\n#')[0]
    assert section, f'{PAGE} has no table of {host}'
    return {
        name: float(share)
        for name, share in re.findall(r'`([^`]+)` ([\d.]+) %', section)
    }


@pytest.mark.parametrize(('host', 'name'), SAMPLE)
def test_a_model_is_converted_or_named_with_its_share(host, name):
    pytest.importorskip(f'{host}.models')
    (row,) = cover_model(ZooModel(host, (f'{name}.py',)))

    below = told_below(host)
    assert row.status in ('converted', 'partly converted'), row.reason
    assert (name in below) == (row.share < ENOUGH), row.dense
    if name in below:
        assert below[name] == round(100 * row.share, 1)

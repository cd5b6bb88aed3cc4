"""A small HRNet, and what the pose estimators of our configs cost."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

import mmskip
from tests.hosts.host import default_scope, without_downloads

pytest.importorskip('mmpose.models')

from mmskip.models import NarrowHRNet

CONFIGS = Path(__file__).parents[2] / 'configs'
FRAGMENTS = CONFIGS / '_base_/models'


def count(name):
    """MACs of a frame; the weights have shapes and no values."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    side, _ = cfg.train_dataloader.dataset.pipeline[4].input_size
    with default_scope('mmpose'), torch.device('meta'):
        model = MODELS.build(without_downloads(cfg.model)).eval()
        frame = torch.empty(1, 3, side, side)
        with torch.no_grad(), mmskip.count_macs(model) as macs:
            model(frame, None, mode='tensor')
    assert not macs.uncounted()
    return macs.total().executed


def test_hrnet_w32_costs_what_the_paper_says():
    macs = count(
        'skip_conv/pose/td-hm_hrnet-w32_8xb16-100e_jhmdb-sub1-256x256'
    )
    assert macs == 10_193_076_224
    assert round(macs / 1e9, 2) == 10.19


def test_the_toy_network_costs_39_million_macs():
    macs = count('toy/td-hm_hrnet-w12_toy-sub-jhmdb-96x96')
    assert macs == 39_277_440


def build(**options):
    cfg = Config.fromfile(FRAGMENTS / 'td-hm_hrnet-w12.py').model.backbone
    with default_scope('mmpose'):
        return MODELS.build({**cfg, **options})


def test_the_stem_is_as_narrow_as_told():
    net = build(stem_channels=8)
    assert isinstance(net, NarrowHRNet)
    assert net.conv1.weight.shape == (8, 3, 3, 3)
    assert net.conv2.weight.shape == (8, 8, 3, 3)
    assert net.norm1.num_features == net.norm2.num_features == 8
    (output,) = net(torch.randn(2, 3, 32, 32))
    assert output.shape == (2, 12, 8, 8)


def test_the_narrow_stem_is_frozen_as_the_original():
    net = build(frozen_stages=1)
    parts = (net.conv1, net.norm1, net.conv2, net.norm2, net.layer1)
    assert not any(p.requires_grad for m in parts for p in m.parameters())
    assert all(p.requires_grad for p in net.stage2.parameters())


@pytest.mark.parametrize('wrong', [0, 8.0])
def test_stems_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match='expected stem_channels'):
        build(stem_channels=wrong)

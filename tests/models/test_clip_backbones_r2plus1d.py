"""R(2+1)D without a pooling, and CorrNet on it."""

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn

import mmskip  # noqa: F401

pytest.importorskip('mmaction.models')

from mmaction.models import ResNet2Plus1d

from mmskip.models import CorrNet, R2Plus1D

NARROW = dict(depth=18, base_channels=8)
STOCK = dict(
    pretrained=None,
    pretrained2d=False,
    conv_cfg=dict(type='Conv2plus1d'),
    norm_cfg=dict(type='BN3d', requires_grad=True),
    conv1_kernel=(3, 7, 7),
    conv1_stride_t=1,
    inflate=(1, 1, 1, 1),
    temporal_strides=(1, 2, 2, 2),
    zero_init_residual=False,
)


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield


def test_is_the_stock_backbone_but_for_the_pooling():
    ours, stock = R2Plus1D(**NARROW), ResNet2Plus1d(**NARROW, **STOCK)
    ours.load_state_dict(stock.state_dict())
    ours.eval(), stock.eval()
    clip = torch.rand(1, 3, 8, 32, 32)
    with torch.no_grad():
        assert not torch.equal(ours(clip), stock(clip))
        stock.maxpool = nn.Identity()
        assert torch.equal(ours(clip), stock(clip))


def test_only_the_stem_and_three_stages_make_it_smaller():
    net = R2Plus1D(**NARROW)
    net.eval()
    with torch.no_grad():
        assert net(torch.zeros(2, 3, 8, 64, 64)).shape == (2, 64, 1, 4, 4)


def test_features_of_the_stages_asked_for():
    net = R2Plus1D(**NARROW, out_indices=(2, 3))
    net.eval()
    with torch.no_grad():
        fine, coarse = net(torch.zeros(2, 3, 8, 64, 64))
    assert fine.shape == (2, 32, 2, 8, 8)
    assert coarse.shape == (2, 64, 1, 4, 4)


def test_corrnet_has_filters_for_the_frames_of_each_stage():
    net = CorrNet(num_frames=7, **NARROW)
    net.eval()
    shapes = [
        net.get_submodule(f'layer{stage}').correlation.correlation.weight.shape
        for stage in (1, 2, 3)
    ]
    assert [tuple(shape[:3]) for shape in shapes] == [
        (49, 2, 7),
        (49, 4, 4),
        (49, 8, 2),
    ]
    assert not hasattr(net.layer4, 'correlation')
    with torch.no_grad():
        assert net(torch.zeros(1, 3, 7, 32, 32)).shape == (1, 64, 1, 2, 2)


def test_corrnet_takes_the_weights_of_r2plus1d():
    net = CorrNet(num_frames=8, correlation=dict(patch_size=3), **NARROW)
    missing, unexpected = net.load_state_dict(
        R2Plus1D(**NARROW).state_dict(), strict=False
    )
    assert not unexpected
    assert all('.correlation.' in name for name in missing)


def test_corrnet_refuses_clips_of_another_length():
    net = CorrNet(num_frames=8, **NARROW)
    net.eval()
    with pytest.raises(ValueError, match='has filters, got 4'):
        net(torch.zeros(1, 3, 4, 32, 32))

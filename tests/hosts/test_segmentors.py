"""VA-RED^2 in an image segmentor of mmsegmentation, an optional extra."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS

import mmskip
from mmskip.apis import import_host
from tests.hosts.host import default_scope, without_downloads

pytest.importorskip('mmseg')

CONFIG = (
    Path(__file__).parents[2]
    / 'configs/va_red2/segmentation'
    / 'va-red2_pspnet_r18-d8_4xb2-100k_ade20k-512x512.py'
)


@pytest.fixture(scope='module')
def model():
    cfg = Config.fromfile(CONFIG)
    import_host(cfg)
    torch.manual_seed(0)
    with default_scope('mmseg'):
        built = MODELS.build(without_downloads(cfg.model))
    return revert_sync_batchnorm(built).eval()


def test_labels_every_pixel_and_counts_every_product(model):
    inputs = torch.randn(2, 3, 64, 64)
    with torch.no_grad(), mmskip.count_macs(model) as macs:
        scores = model(inputs, mode='tensor')
    assert scores.shape == (2, 150, 8, 8)
    assert not macs.uncounted()
    assert 0 < macs.total().executed <= macs.total().dense


def test_reverted_it_is_the_stock_segmentor(model):
    names = {k for k, _ in model.named_modules() if k.endswith('.gate')}
    assert {name.split('.')[0] for name in names} == {
        'backbone',
        'decode_head',
    }
    mmskip.revert(model)
    assert not [k for k in model.state_dict() if '.gate.' in k]

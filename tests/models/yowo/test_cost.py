"""What YOWO costs, against Table 4.9 of the VA-RED^2 thesis."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

import mmskip
from tests.models.yowo.detectors import FOLDER


@pytest.mark.parametrize(
    ('name', 'ours', 'thesis'),
    [
        ('yowo_x3d-m', 5_808_244_224, 5.75e9),
        ('yowo_i3d_inception-v2', 43_534_002_176, 43.9e9),
    ],
)
def test_one_backbone_costs_what_the_thesis_says(name, ours, thesis):
    """Of two backbones, or of YOWO's two branches, it would be far more."""
    cfg = Config.fromfile(FOLDER / f'{name}_1xb8-16x1-50k_jhmdb-224.py')
    with torch.device('meta'):
        model = MODELS.build(cfg.model).eval()
        clip = torch.empty(1, 3, 16, 224, 224)
    with torch.no_grad(), mmskip.count_macs(model) as macs:
        model(clip, None, mode='tensor')
    assert not macs.uncounted()
    assert macs.total().executed == ours
    assert ours == pytest.approx(thesis, rel=0.011)

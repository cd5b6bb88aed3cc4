"""Running a backbone's stages is running the backbone."""

import pytest
import torch
from mmaction.models import C2D, MobileNetV2, MobileNetV2TSM, ResNet, TANet
from torch import nn

from mmskip.models import NarrowResNet
from mmskip.sof_net import list_stages


@pytest.mark.parametrize(
    ('backbone', 'stages'),
    [
        (lambda: NarrowResNet(18, 8), 5),
        (lambda: NarrowResNet(50, 4), 5),
        (lambda: ResNet(18, num_stages=2, strides=(1, 2), dilations=(1, 1),
                        out_indices=(1,)), 3),
        (lambda: MobileNetV2(widen_factor=0.25), 5),
    ],
    ids=['r18', 'r50', 'two-stages', 'mobilenet'],
)  # fmt: skip
@torch.no_grad()
def test_one_after_the_other_they_are_the_backbone(backbone, stages):
    backbone = backbone()
    backbone.eval()  # returns nothing in mmaction2
    found = list_stages(backbone)
    assert len(found) == stages
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(nn.Sequential(*found)(x), backbone(x))
    layers = {m for stage in found for m in stage.modules()}
    assert {m for m in backbone.modules() if not list(m.children())} <= layers


@pytest.mark.parametrize('name', ['resnet18', 'mobilenet_v2'])
@torch.no_grad()
def test_backbones_of_torchvision_have_stages(name):
    models = pytest.importorskip('torchvision').models
    backbone = getattr(models, name)().eval()
    found = list_stages(backbone)
    assert len(found) == 5
    x = torch.randn(1, 3, 32, 32)
    feature = nn.Sequential(*found)(x).mean((2, 3))
    classifier = backbone.fc if name == 'resnet18' else backbone.classifier
    torch.testing.assert_close(classifier(feature), backbone(x))


@pytest.mark.parametrize('kind', [C2D, TANet, MobileNetV2TSM])
def test_backbones_that_mix_frames_are_refused_with_the_reason(kind):
    backbone = kind.__new__(kind)
    with pytest.raises(ValueError, match=f'{kind.__name__}, which mixes'):
        list_stages(backbone)


def test_an_unknown_backbone_is_told_how_to_become_known():
    with pytest.raises(TypeError, match=r'list_stages\.register') as caught:
        list_stages(nn.Linear(1, 1))
    assert 'mmaction.ResNet' in str(caught.value)
    assert 'TSM' not in str(caught.value)


def test_a_user_adds_a_backbone():
    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)

    @list_stages.register
    def _(backbone: Mine) -> list[nn.Sequential]:
        return [nn.Sequential(backbone.first), nn.Sequential(backbone.second)]

    assert len(list_stages(Mine())) == 2


def test_only_the_last_stage_may_be_returned():
    with pytest.raises(ValueError, match=r'out_indices=\(3,\), got \(2, 3\)'):
        list_stages(NarrowResNet(18, 4, out_indices=(2, 3)))

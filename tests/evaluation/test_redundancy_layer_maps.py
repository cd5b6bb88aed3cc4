"""Feature maps of a dynamic layer."""

import pytest
import torch
from torch import nn

import mmskip
from mmskip.evaluation.redundancy import capture_maps, dynamic_layers


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv3d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 6, 3)
    )
    mmskip.convert(model, mmskip.DynamicConversion())
    return model.eval()


@pytest.fixture
def run(model):
    x = torch.randn(2, 3, 5, 8, 8)

    def run():
        with torch.no_grad():
            model(x)

    return run


def test_with_all_computed_both_are_equal(model, run):
    with mmskip.force_routing(model):
        maps = capture_maps(model, '0', run)
    assert maps.full.shape == (8, 5, 8, 8)
    assert torch.allclose(maps.full, maps.mixed, atol=1e-5)
    assert maps.channels.all()
    assert maps.frames.all()


def test_what_is_called_computed_equals_the_full_convolution(model, run):
    with mmskip.force_routing(model, time=1, channels=1):
        maps = capture_maps(model, '0', run, sample=1)
    assert maps.channels.tolist() == [True] * 4 + [False] * 4
    assert maps.frames.tolist() == [True, False, True, False, True]
    same = torch.isclose(maps.full, maps.mixed, atol=1e-5)
    same = same.flatten(2).all(2)
    computed = maps.channels[:, None] & maps.frames
    assert torch.equal(same, computed)


def test_the_sample_is_the_one_that_was_asked_for(model, run):
    with mmskip.force_routing(model):
        one = capture_maps(model, '2', run, sample=0)
        other = capture_maps(model, '2', run, sample=1)
    assert not torch.equal(one.full, other.full)
    assert torch.allclose(one.full, one.mixed, atol=1e-6)


def test_layers_of_images_have_one_frame():
    model = nn.Sequential(nn.Conv2d(3, 8, 3))
    mmskip.convert(model, mmskip.DynamicConversion())
    model.eval()
    with mmskip.force_routing(model, channels=1), torch.no_grad():
        maps = capture_maps(model, '0', lambda: model(torch.randn(2, 3, 8, 8)))
    assert maps.mixed.shape == maps.full.shape == (8, 1, 6, 6)
    assert maps.frames.tolist() == [True]
    assert maps.channels.sum() == 4


def test_what_is_not_there_is_said(model, run):
    with pytest.raises(ValueError, match="got '1'; there are 0, 2"):
        capture_maps(model, '1', run)
    with pytest.raises(ValueError, match='one of 2 samples'):
        capture_maps(model, '0', run, sample=2)
    with pytest.raises(ValueError, match='DynamicConversion'):
        dynamic_layers(nn.Sequential(nn.Conv3d(3, 8, 3)))

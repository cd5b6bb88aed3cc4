"""Outputs are forced to fire where a benchmark wants them to."""

import pytest
import torch

import mmskip
from mmskip.experiments import force, region
from mmskip.experiments.benchmark import output_sizes
from mmskip.native import library
from mmskip.plan import propagate_changes
from tests.helpers.nets import TinyNet


@pytest.mark.parametrize('pattern', ['blob', 'blocks', 'pixels'])
@pytest.mark.parametrize('share', [0.0, 0.25, 1.0])
def test_a_region_has_the_share_that_is_asked_for(pattern, share):
    place = region(pattern, share, torch.Size([64, 32]))

    assert place.shape == (1, 1, 64, 32)
    assert place.float().mean() == share


@pytest.mark.skipif(bool(library.MISSING), reason=library.MISSING)
@pytest.mark.parametrize('in_a_plan', [False, True])
def test_every_layer_fires_in_its_region_and_nowhere_else(in_a_plan):
    net = TinyNet().eval()
    gate = dict(type='InputNormGate', threshold=0.0)
    mmskip.convert(net, mmskip.SkipConversion(gate))
    if in_a_plan:
        propagate_changes(net)
    state = mmskip.StreamState()
    with torch.inference_mode():
        sizes = output_sizes(net, torch.randn(1, 3, 16, 16))
        for share in (0.25, 1.0, 0.5):
            force(sizes, 'blob', share)
            state.reset()
            with mmskip.stream(net, state):
                for _ in range(2):
                    net(torch.randn(1, 3, 16, 16))
            for (name, _), mask in state.last_masks().items():
                size = sizes[net.get_submodule(name)]
                assert mask.equal(region('blob', share, size))


@pytest.mark.skipif(bool(library.MISSING), reason=library.MISSING)
def test_a_share_of_nothing_leaves_it_to_the_gate():
    net = TinyNet().eval()
    gate = dict(type='InputNormGate', threshold=0.0)
    mmskip.convert(net, mmskip.SkipConversion(gate))
    image = torch.randn(1, 3, 16, 16)
    with torch.inference_mode():
        sizes = output_sizes(net, image)
        force(sizes, 'blob', 0.5)
        force(sizes, 'blob', 0.0)
        with mmskip.stream(net) as state:
            net(image)
            net(image)
            assert not any(m.any() for m in state.last_masks().values())
            net(image + 1)
    assert all(mask.all() for mask in state.last_masks().values())

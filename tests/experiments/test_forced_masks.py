"""Outputs are forced to fire where a benchmark wants them to."""

import pytest
import torch

from mmskip.experiments import RegionGate, region


@pytest.mark.parametrize('pattern', ['blob', 'blocks', 'pixels'])
@pytest.mark.parametrize('share', [0.0, 0.25, 1.0])
def test_a_region_has_the_share_that_is_asked_for(pattern, share):
    place = region(pattern, share, torch.Size([64, 32]))

    assert place.shape == (1, 1, 64, 32)
    assert place.float().mean() == share


def test_a_forced_gate_fires_in_its_region_only():
    gate = RegionGate()
    place = region('blob', 0.25, torch.Size([8, 8]))

    gate.force(place)
    assert gate.params().region is place
    assert gate.params() is gate.params()
    gate.force(torch.zeros_like(place))
    assert gate.params().region is None
    assert gate.params().threshold == 0.0

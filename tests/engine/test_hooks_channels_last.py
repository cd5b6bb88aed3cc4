"""Kernels change their layout and nothing else."""

import copy
from types import SimpleNamespace

import torch
from torch import nn

import mmskip
from mmskip.engine import ChannelsLastHook
from tests.helpers.runs import run_stream


def make_net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3)
    ).eval()


def test_2d_kernels_are_channels_last_and_parameters_stay_the_same_objects():
    net = nn.ModuleList([make_net(), nn.Conv3d(2, 4, 3), nn.Linear(2, 2)])
    before = [(p, p.clone()) for p in net.parameters()]

    ChannelsLastHook().before_run(SimpleNamespace(model=net))

    kernel = net[0][0].weight
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    for parameter, (old, value) in zip(net.parameters(), before, strict=True):
        assert parameter is old
        assert torch.equal(parameter, value)


def test_a_stream_gives_the_same():
    gate = dict(type='InputNormGate', threshold=0.3)
    net = make_net()
    mmskip.convert(net, mmskip.SkipConversion(gate, memory='accumulated'))
    turned = copy.deepcopy(net)
    ChannelsLastHook().before_run(SimpleNamespace(model=turned))
    video = torch.randn(4, 1, 3, 9, 10).div(3).cumsum(0)

    outputs, macs = run_stream(net, video)
    others, counted = run_stream(turned, video)

    torch.testing.assert_close(others, outputs)
    assert counted.total() == macs.total()
    assert macs.total().executed < macs.total().dense

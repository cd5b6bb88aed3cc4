import pytest
import torch
from torch import nn

import mmskip
from mmskip.evaluation import OutputError, norm_gates
from mmskip.reading import InputError
from tests.helpers.convs import make_video
from tests.helpers.nets import PyramidNet, TinyNet, skipping


@pytest.fixture
def clips():
    torch.manual_seed(0)
    return [make_video(4, 1, *TinyNet.shape) for _ in range(2)]


def everywhere(net, threshold):
    return dict.fromkeys(norm_gates(net), threshold)


def test_open_gates_have_no_error_and_cost_dense_and_gates(clips):
    net = skipping(TinyNet(), -1.0)
    cost = OutputError(net, clips, net)(everywhere(net, -1.0))
    gates = sum(TinyNet.gate_macs.values()) * 6
    assert cost.error == 0
    assert cost.share == 1 + gates / (8 * TinyNet.dense)


def test_closed_gates_cost_the_first_frames_and_repeat_their_output(clips):
    net = skipping(TinyNet(), 0.0)
    meter = OutputError(net, clips, net)
    cost = meter(everywhere(net, 1e9))
    with torch.no_grad():
        dense = [[net(x) for x in clip] for clip in clips]
    wrong = sum(((z - zs[0]) ** 2).sum() for zs in dense for z in zs)
    power = sum((z**2).sum() for zs in dense for z in zs)
    assert cost.error == pytest.approx(float(wrong / power) ** 0.5)
    head = TinyNet.macs['classifier']
    gates = sum(TinyNet.gate_macs.values()) * 6
    spent = 2 * TinyNet.dense + 6 * head + gates
    assert cost.share == spent / (8 * TinyNet.dense)
    assert meter.runs == 1


def test_every_tensor_of_an_output_weighs_the_same():
    torch.manual_seed(0)
    net = skipping(PyramidNet(), 0.0)
    video = make_video(3, 1, *PyramidNet.shape)
    forwards = (net, lambda x: dict(levels=[*net(x), torch.ones(1).long()]))
    costs = [
        OutputError(net, [video], forward)(everywhere(net, 5.0))
        for forward in forwards
    ]
    assert costs[0] == costs[1]
    assert costs[0].error > 0


def test_models_without_norm_gates_are_refused(clips):
    net = TinyNet()
    with pytest.raises(InputError, match='learned gates have no threshold'):
        OutputError(net, clips, net)
    conversion = mmskip.SkipConversion(dict(type='GumbelGate'))
    mmskip.convert(net, conversion)
    with pytest.raises(InputError, match='norm gates'):
        norm_gates(net)


def test_clips_of_one_frame_are_refused():
    net = skipping(nn.Sequential(nn.Conv2d(1, 1, 1)))
    with pytest.raises(InputError, match='2 frames or more'):
        OutputError(net, [[torch.zeros(1, 1, 2, 2)]], net)

"""Costs of stages are counted, on the real shapes."""

import torch
from mmaction.models import MobileNetV2, TSNHead
from torch.utils.flop_counter import FlopCounterMode

import mmskip
from mmskip.models import NarrowResNet
from mmskip.sof_net.stages import measure_stages


def block(side, inputs, outputs, first):
    """MACs of two basic blocks of a ResNet-18 on side x side positions."""
    macs = side**2 * (inputs * outputs * 9 + 3 * outputs * outputs * 9)
    return macs + (0 if first else side**2 * inputs * outputs)


def test_a_resnet_has_its_closed_form():
    backbone, head = NarrowResNet(18, 8), TSNHead(10, 64)
    costs = measure_stages(backbone, head, (3, 64, 64))
    assert costs.by_stage == (
        32 * 32 * 8 * 3 * 49,
        block(16, 8, 8, first=True),
        block(8, 8, 16, first=False),
        block(4, 16, 32, first=False),
        block(2, 32, 64, first=False),
    )
    assert sum(costs.head.values()) == 640
    assert costs.channels == (8, 8, 16, 32, 64)
    assert costs.frame == sum(costs.by_stage) + 640
    assert costs.remaining[-1] == 640
    assert costs.remaining[0] == costs.frame - costs.by_stage[0]


def test_the_sum_is_what_torch_counts():
    backbone, head = MobileNetV2(widen_factor=0.25), TSNHead(3, 1280)
    backbone.eval()
    costs = measure_stages(backbone, head, (3, 40, 56))
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        head(backbone(torch.zeros(1, 3, 40, 56)), num_segs=1)
    assert costs.frame == flops.get_total_flops() // 2


def test_measuring_leaves_no_trace():
    backbone, head = NarrowResNet(18, 4), TSNHead(3, 32)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    with mmskip.count_macs(backbone) as macs:
        measure_stages(backbone, head, (3, 32, 32))
    assert macs.by_module() == macs.uncounted() == {}
    assert backbone.training
    assert all(before[k].equal(v) for k, v in backbone.state_dict().items())


def test_names_are_those_of_a_recognizer():
    costs = measure_stages(NarrowResNet(18, 4), TSNHead(3, 32), (3, 32, 32))
    assert list(costs.stages[0]) == ['backbone.conv1.conv']
    assert list(costs.head) == ['cls_head.fc_cls']
    assert all(n.startswith('backbone.layer4.') for n in costs.stages[4])

"""Skip-Convolutions over mmcv's convolution classes."""

import pytest
import torch
from mmcv.cnn import ConvModule, build_conv_layer
from mmcv.cnn.bricks import Conv2d as MMCVConv2d
from mmcv.cnn.bricks import Conv2dAdaptivePadding
from mmcv.cnn.bricks import Conv3d as MMCVConv3d
from mmengine.model import ConstantInit, KaimingInit
from mmengine.registry import DefaultScope
from torch import nn

import mmskip
from mmskip.skip_conv import MEMORY_RULES, SkipConv2d
from mmskip.skip_conv.layer import (
    SkipConv2dAdaptivePadding,
    SkipMMCVConv2d,
    SkipMMCVConv3d,
)
from tests.helpers.convs import make_video, whole_weights
from tests.helpers.runs import run_stream

GATE = dict(type='mmskip.InputNormGate', threshold=0)
TWINS = {
    nn.Conv2d: SkipConv2d,
    MMCVConv2d: SkipMMCVConv2d,
    MMCVConv3d: SkipMMCVConv3d,
    Conv2dAdaptivePadding: SkipConv2dAdaptivePadding,
}
EACH_CLASS = pytest.mark.parametrize('conv_class', TWINS)


def converted(net, **options):
    mmskip.convert(net, mmskip.SkipConversion(GATE, **options))
    return net


@EACH_CLASS
def test_each_class_is_converted_to_its_own_and_back(conv_class):
    net = converted(nn.Sequential(conv_class(4, 8, 3)))
    assert type(net[0]) is TWINS[conv_class]

    mmskip.revert(net)

    assert type(net[0]) is conv_class


@pytest.mark.parametrize('memory', MEMORY_RULES)
@pytest.mark.parametrize('size', [(8, 8), (7, 9), (10, 3)])
@pytest.mark.parametrize(
    'options',
    [
        dict(kernel_size=3, stride=2),
        dict(kernel_size=5, stride=2, groups=4),
        dict(kernel_size=(2, 3), stride=(3, 1), dilation=(1, 2)),
        dict(kernel_size=1, stride=2),
    ],
    ids=str,
)
def test_adaptive_padding_with_an_open_gate_is_dense(options, size, memory):
    conv = whole_weights(Conv2dAdaptivePadding(4, 8, **options))
    video = make_video(4, 2, 4, *size, share=0.05)
    dense = [conv(x) for x in video]
    net = converted(nn.Sequential(conv, nn.ReLU(True)), memory=memory)

    outputs, _ = run_stream(net, video)

    assert torch.equal(conv(video[0]), dense[0])
    for expected, (output,) in zip(dense, outputs, strict=True):
        assert torch.equal(output, expected.relu())


def test_mmcv_wrappers_with_an_open_gate_are_dense():
    for conv_class, shape in ((MMCVConv2d, (7, 8)), (MMCVConv3d, (3, 7, 8))):
        conv = whole_weights(conv_class(4, 8, 3, padding=1))
        video = make_video(3, 1, 4, *shape)
        dense = [conv(x) for x in video]

        outputs, _ = run_stream(converted(conv), video)

        for expected, (output,) in zip(dense, outputs, strict=True):
            assert torch.equal(output, expected)


@EACH_CLASS
@pytest.mark.parametrize(
    'layer', ['Conv2d', 'Conv3d', 'Conv2dAdaptivePadding', 'Linear']
)
def test_initialisers_treat_converted_layers_as_before(conv_class, layer):
    stock = nn.Sequential(conv_class(4, 8, 3))
    skip = converted(nn.Sequential(conv_class(4, 8, 3)))
    for net in (stock, skip):
        ConstantInit(val=0.5, layer='_BatchNorm')(net)
        net[0].weight.data.fill_(9)
        torch.manual_seed(1)
        KaimingInit(layer=layer)(net)

    assert torch.equal(stock[0].weight, skip[0].weight)
    if layer == 'Conv2d' and conv_class is not MMCVConv3d:
        assert not (skip[0].weight == 9).any()


@pytest.mark.parametrize('scope', ['mmengine', 'mmdet'])
def test_conv_cfg_builds_a_skip_conv_layer_by_layer(scope):
    conv_cfg = dict(type='mmskip.SkipConv2d', gate=GATE, memory='accumulated')
    with DefaultScope.overwrite_default_scope(scope):
        conv = build_conv_layer(conv_cfg, 4, 8, 3, padding=1, bias=False)

    assert type(conv) is SkipConv2d
    assert conv.gate.params().kind == 'input_norm'
    assert conv.memory == 'accumulated'
    assert conv.padding == (1, 1)


def test_conv_cfg_works_in_conv_modules():
    conv_cfg = dict(type='mmskip.SkipConv2d', gate=GATE)
    stock = ConvModule(4, 8, 3, padding=1, norm_cfg=dict(type='BN')).eval()
    module = ConvModule(
        4, 8, 3, padding=1, conv_cfg=conv_cfg, norm_cfg=dict(type='BN')
    ).eval()
    module.load_state_dict(whole_weights(stock).state_dict())
    video = make_video(3, 1, 4, 8, 8)

    outputs, _ = run_stream(module, video)

    with torch.no_grad():
        for x, (output,) in zip(video, outputs, strict=True):
            assert torch.equal(output, stock(x))


def test_a_layer_built_by_conv_cfg_can_be_reverted():
    conv_cfg = dict(type='mmskip.SkipConv2d', gate=GATE)
    module = ConvModule(4, 8, 3, conv_cfg=conv_cfg)

    mmskip.revert(module)

    assert type(module.conv) is nn.Conv2d

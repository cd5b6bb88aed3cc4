"""Change a model's layers in place, and undo it."""

import copy

import pytest
import torch
from mmcv.cnn import ConvModule
from torch import nn

import mmskip
from mmskip.skip_conv import SkipConv2d
from mmskip.skip_conv.conversion import LINEAR_REASON
from tests.helpers.convs import make_video
from tests.helpers.nets import TinyNet
from tests.helpers.runs import run_stream

GATE = dict(type='OutputNormGate', threshold=0.5)


def convert(net, **where):
    return mmskip.convert(net, mmskip.SkipConversion(GATE), **where)


def anatomy(net):
    """All of a model that a refused conversion must not touch."""
    return [
        (name, type(module), copy.copy(vars(module)))
        for name, module in net.named_modules()
    ]


def refused(net, match, error=ValueError, **where):
    before = anatomy(net)
    with pytest.raises(error, match=match):
        convert(net, **where)
    assert anatomy(net) == before


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
        self.neck = nn.ModuleDict({'lateral': nn.Conv2d(4, 4, 1)})
        self.bbox_head = nn.Conv2d(4, 4, 1)
        self.bbox_head_2 = nn.Linear(4, 4)


def test_conversion_is_in_place_and_keeps_parameters_and_names():
    net = TinyNet()
    modules = dict(net.named_modules())
    parameters = dict(net.named_parameters())
    keys = list(net.state_dict())

    convert(net)

    assert type(net) is TinyNet
    assert list(net.state_dict()) == keys
    assert all(net.get_submodule(n) is m for n, m in modules.items())
    assert dict(net.named_parameters()).keys() == parameters.keys()
    assert all(net.get_parameter(n) is p for n, p in parameters.items())


def test_the_report_names_what_was_converted():
    report = convert(TinyNet())

    assert report.converted == ['stem', 'body', 'head']
    assert report.left_dense == {'classifier': LINEAR_REASON}


def test_an_optimizer_built_after_conversion_trains_the_same_parameters():
    net = TinyNet()
    before = {id(parameter) for parameter in net.parameters()}

    convert(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    assert {id(p) for p in optimizer.param_groups[0]['params']} == before


@pytest.mark.parametrize('streaming', [True, False])
def test_forward_hooks_still_fire(streaming):
    net, seen = TinyNet(), []
    net.stem.register_forward_hook(lambda *_: seen.append('after'))
    net.stem.register_forward_pre_hook(lambda *_: seen.append('before'))
    convert(net)

    if streaming:
        run_stream(net, make_video(2, 1, *TinyNet.shape))
    else:
        net(torch.zeros(1, *TinyNet.shape))

    assert seen == ['before', 'after'] * (2 if streaming else 1)


@pytest.mark.parametrize(
    ('where', 'converted'),
    [
        ({}, ['backbone.0', 'backbone.1', 'neck.lateral', 'bbox_head']),
        (dict(include='backbone'), ['backbone.0', 'backbone.1']),
        (dict(include=r'backbone\.1'), ['backbone.1']),
        (dict(include=['neck', '.*head']), ['neck.lateral', 'bbox_head']),
        (dict(exclude='backbone'), ['neck.lateral', 'bbox_head']),
        (dict(include='backbone', exclude=['.*0']), ['backbone.1']),
    ],
    ids=str,
)
def test_include_and_exclude_choose_layers_by_name(where, converted):
    net = Nested()

    report = convert(net, **where)

    assert report.converted == converted
    names = [n for n, m in net.named_modules() if isinstance(m, SkipConv2d)]
    assert names == converted
    assert len(report.converted) + len(report.left_dense) == 5
    reasons = {'not included', 'excluded', LINEAR_REASON}
    assert set(report.left_dense.values()) <= reasons


def test_a_pattern_means_no_name_that_only_starts_like_it():
    report = convert(Nested(), include=['bbox_head', 'neck'], exclude='nec.')

    assert report.converted == ['bbox_head']
    assert report.left_dense['bbox_head_2'] == 'not included'


def test_a_pattern_matches_whole_names_only():
    refused(Nested(), "'back' matches no module", include='back')


@pytest.mark.parametrize('key', ['include', 'exclude'])
def test_a_pattern_without_a_match_lists_the_parts(key):
    refused(
        Nested(),
        "'necks' matches no module of Nested.*backbone, neck, bbox_head, ",
        **{key: ['backbone', 'necks']},
    )


def test_a_broken_pattern_is_shown():
    refused(Nested(), r"'\(' is not a regular expression", include='(')


def test_nothing_converted_lists_candidates_and_reasons():
    net = nn.ModuleDict({
        'up': nn.ConvTranspose2d(1, 1, 2),
        'line': nn.Conv1d(1, 1, 1),
    })  # fmt: skip

    refused(net, '(?s)none of 2 candidates.*up: a transposed.*line: Conv1d')


def test_a_model_without_convolutions_is_refused():
    refused(nn.ReLU(), 'no layer of its kind in ReLU')
    refused(nn.Sequential(nn.Linear(2, 2)), '0: a linear layer')


def test_a_converted_model_is_not_converted_again():
    net = TinyNet()
    convert(net)

    refused(net, r'stem is converted already \(SkipConv2d\).*revert')


def test_two_conversions_share_a_model_if_they_mean_different_layers():
    net = Nested()
    fine = mmskip.SkipConversion(dict(type='InputNormGate', threshold=0.1))

    convert(net, include='backbone')
    report = mmskip.convert(net, fine, exclude='backbone')

    assert report.converted == ['neck.lateral', 'bbox_head']
    assert report.left_dense == {'bbox_head_2': LINEAR_REASON}
    assert net.backbone[0].gate.threshold == 0.5
    assert net.bbox_head.gate.threshold == 0.1
    refused(net, 'backbone.0 is converted already', include='backbone')


def shared():
    net = nn.ModuleDict({
        'levels': nn.ModuleList(nn.Sequential(nn.Conv2d(2, 2, 3))
                                for _ in range(2)),
        'other': nn.Conv2d(2, 2, 1),
    })  # fmt: skip
    net['levels'][1][0] = net['levels'][0][0]
    return net


def test_shared_modules_are_converted_once_and_stay_shared():
    net = shared()

    report = convert(net)

    assert report.converted == ['levels.0.0', 'other']
    assert net['levels'][1][0] is net['levels'][0][0]
    mmskip.revert(net)
    assert net['levels'][1][0] is net['levels'][0][0]


def test_a_shared_module_answers_to_each_of_its_names():
    assert convert(shared(), include=r'levels\.1').converted == ['levels.0.0']
    assert convert(shared(), exclude=r'levels\.1').converted == ['other']
    assert convert(shared(), include=r'levels\.1\.0').converted == [
        'levels.0.0'
    ]


def fused():
    return nn.Sequential(
        nn.Conv2d(2, 2, 3),
        ConvModule(
            2,
            2,
            3,
            norm_cfg=dict(type='BN'),
            efficient_conv_bn_eval=True,
        ),
    )


def test_a_convolution_that_mmcv_fuses_at_run_time_is_refused():
    refused(fused(), r'^1\.conv: .*efficient_conv_bn_eval=False')


def test_a_fused_convolution_may_be_left_out():
    assert convert(fused(), exclude='1').converted == ['0']


def test_revert_restores_types_keys_attributes_and_outputs_bit_for_bit():
    net = TinyNet()
    x = torch.randn(2, *TinyNet.shape)
    before, output = anatomy(net), net(x)
    keys = list(net.state_dict())

    convert(net)
    run_stream(net, make_video(3, 1, *TinyNet.shape))
    mmskip.revert(net)

    assert anatomy(net) == before
    assert list(net.state_dict()) == keys
    assert torch.equal(net(x), output)


def test_a_reverted_model_can_be_converted_again():
    net = TinyNet()
    first = convert(net)
    mmskip.revert(net)

    assert convert(net) == first


def test_revert_of_a_stock_model_is_refused():
    with pytest.raises(ValueError, match='TinyNet without any converted'):
        mmskip.revert(TinyNet())


@pytest.mark.parametrize(
    'block',
    [mmskip.stream, mmskip.count_macs, lambda net: mmskip.clip(net, 2)],
)
def test_revert_inside_a_block_is_refused(block):
    net = TinyNet()
    convert(net)

    with block(net), pytest.raises(RuntimeError, match='leave that block'):
        mmskip.revert(net)

    assert type(net.stem) is SkipConv2d
    mmskip.revert(net)


def test_a_converted_copy_does_not_change_its_original():
    net = TinyNet()
    twin = copy.deepcopy(net)

    convert(twin)

    assert type(net.stem) is nn.Conv2d
    assert type(twin.stem) is SkipConv2d

"""Checkpoints of the port's layout, written out from the architecture."""

import math

import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint

pytest.importorskip('mmdet')

from mmskip.apis import UserError
from mmskip.apis.errors import EXIT_INCOMPLETE, EXIT_OK
from tests.models.efficientdet.detectors import SIZES, build, config

# Repeats, kernel, expansion and channels of EfficientNet-B0's stages.
STAGES = [
    (1, 3, 1, 16),
    (2, 3, 6, 24),
    (2, 5, 6, 40),
    (3, 3, 6, 80),
    (3, 5, 6, 112),
    (4, 5, 6, 192),
    (1, 3, 6, 320),
]
SCALES = dict(b0=(1.0, 1.0), b1=(1.0, 1.1), b2=(1.1, 1.2), b3=(1.2, 1.4))
# By node of a pyramid layer: number of inputs, and level of the first input.
NODES = [(2, 3), (2, 2), (2, 1), (2, 0), (3, 1), (3, 2), (3, 3), (2, 4)]


def conv(name, *shape, bias=False):
    yield f'{name}.weight', shape
    if bias:
        yield f'{name}.bias', shape[:1]


def norm(name, channels):
    for leaf in ('weight', 'bias', 'running_mean', 'running_var'):
        yield f'{name}.{leaf}', (channels,)
    yield f'{name}.num_batches_tracked', ()


def rounded(channels, factor):
    """To the nearest multiple of 8 that is no tenth smaller."""
    nearest = int(channels * factor + 4) // 8 * 8
    return nearest + 8 * (nearest < 0.9 * channels * factor)


def backbone(arch):
    width, depth = SCALES[arch]
    before = rounded(32, width)
    yield from conv('backbone.conv_stem', before, 3, 3, 3)
    yield from norm('backbone.bn1', before)
    for stage, (repeats, kernel, expansion, after) in enumerate(STAGES):
        after = rounded(after, width)
        for index in range(math.ceil(repeats * depth)):
            name = f'backbone.blocks.{stage}.{index}'
            inner = before * expansion
            if stage == 0:
                names = ('conv_dw', 'bn1', 'conv_pw', 'bn2')
            else:
                names = ('conv_dw', 'bn2', 'conv_pwl', 'bn3')
                yield from conv(f'{name}.conv_pw', inner, before, 1, 1)
                yield from norm(f'{name}.bn1', inner)
            squeezed, se = before // 4, f'{name}.se.conv_'
            yield from conv(f'{name}.{names[0]}', inner, 1, kernel, kernel)
            yield from norm(f'{name}.{names[1]}', inner)
            yield from conv(f'{se}reduce', squeezed, inner, 1, 1, bias=True)
            yield from conv(f'{se}expand', inner, squeezed, 1, 1, bias=True)
            yield from conv(f'{name}.{names[2]}', after, inner, 1, 1)
            yield from norm(f'{name}.{names[3]}', after)
            before = after


def pyramid(size, bias):
    width = size.channels
    for level in (0, 1, 2):
        for node, (_, first) in enumerate(NODES):
            if first == level:
                name = f'fpn.cell.0.fnode.{node}.combine.resample.{level}'
                yield from projection(name, size, level, bias)
    yield from projection('fpn.resample.3', size, 2, bias)
    for layer in range(size.num_repeats):
        for node, (inputs, _) in enumerate(NODES):
            name = f'fpn.cell.{layer}.fnode.{node}'
            yield f'{name}.combine.edge_weights', (inputs,)
            name = f'{name}.after_combine.conv'
            yield from separable(name, width, width, bias)
            yield from norm(f'{name}.bn', width)


def projection(name, size, level, bias):
    width, before = size.channels, size.in_channels[level]
    yield from conv(f'{name}.conv.conv', width, before, 1, 1, bias=bias)
    yield from norm(f'{name}.conv.bn', width)


def separable(name, before, after, bias):
    yield from conv(f'{name}.conv_dw', before, 1, 3, 3)
    yield from conv(f'{name}.conv_pw', after, before, 1, 1, bias=bias)


def heads(size, bias):
    width = size.channels
    for net, outputs in (('class_net', 90), ('box_net', 4)):
        for d in range(size.stacked_convs):
            yield from separable(f'{net}.conv_rep.{d}', width, width, bias)
            for level in range(5):
                yield from norm(f'{net}.bn_rep.{d}.{level}.bn', width)
        yield from separable(f'{net}.predict', width, 9 * outputs, True)


def checkpoint(size, bias=True):
    """Parameters of the port, each filled with its own number, 2, 3, ..."""
    shapes = [*backbone(size.arch), *pyramid(size, bias), *heads(size, bias)]
    assert len(dict(shapes)) == len(shapes)
    return {
        name: torch.tensor(float(number)).expand(shape)
        for number, (name, shape) in enumerate(shapes, start=2)
    }


def detector(size, num_classes=90, bias=True):
    cfg = config(size, num_classes)
    cfg.neck.conv_bias = cfg.bbox_head.conv_bias = bias
    with DefaultScope.overwrite_default_scope('mmdet'):
        return build(cfg)


@pytest.fixture
def tool(load_tool):
    return load_tool('model_converters/efficientdet')


@pytest.mark.parametrize(
    ('name', 'bias'), [('d0', True), ('d0', False), ('d1', True), ('d3', True)]
)
def test_every_parameter_is_filled_exactly_once(tool, name, bias):
    source = checkpoint(SIZES[name], bias)
    converted, unmatched = tool.convert(source)
    assert unmatched == []
    expected = detector(SIZES[name], bias=bias).state_dict()
    assert {k: v.shape for k, v in converted.items()} == {
        k: v.shape for k, v in expected.items()
    }
    numbers = [float(v.flatten()[0]) for v in converted.values()]
    assert sorted(numbers) == list(range(2, len(source) + 2))


@pytest.mark.parametrize(
    ('theirs', 'ours'),
    [
        (
            'backbone.blocks.0.0.conv_pw.weight',
            'backbone.layers.1.0.linear_conv.conv.weight',
        ),
        (
            'backbone.blocks.4.1.conv_pw.weight',
            'backbone.layers.4.4.expand_conv.conv.weight',
        ),
        (
            'backbone.blocks.6.0.se.conv_expand.bias',
            'backbone.layers.5.4.se.conv2.conv.bias',
        ),
        (
            'fpn.cell.1.fnode.0.combine.edge_weights',
            'neck.layers.1.down.3.fusion_weights',
        ),
        (
            'fpn.cell.0.fnode.5.combine.resample.2.conv.conv.weight',
            'neck.layers.0.up.1.lateral.conv.weight',
        ),
        ('fpn.resample.3.conv.bn.running_var', 'neck.extra.0.bn.running_var'),
        (
            'box_net.bn_rep.2.4.bn.bias',
            'bbox_head.reg_norms.2.4.bias',
        ),
    ],
)
def test_layers_keep_their_place(tool, theirs, ours):
    source = checkpoint(SIZES['d0'])
    converted, _ = tool.convert(source)
    assert torch.equal(converted[ours], source[theirs])


def test_box_channels_become_x_y_w_h(tool):
    key = 'box_net.predict.conv_pw.bias'
    y_x_h_w = torch.arange(8.0)
    converted, _ = tool.convert({key: y_x_h_w})
    assert converted['bbox_head.retina_reg.pointwise.bias'].tolist() == [
        *(1, 0, 3, 2),
        *(5, 4, 7, 6),
    ]


def test_wrappers_of_the_model_do_not_matter(tool):
    source = checkpoint(SIZES['d0'])
    expected, _ = tool.convert(source)
    for prefix in ('module.', 'model.', 'module.model.'):
        renamed = {prefix + key: value for key, value in source.items()}
        converted, unmatched = tool.convert(renamed)
        assert unmatched == []
        assert list(converted) == list(expected)


def test_two_models_in_one_file_are_refused(tool):
    name = 'backbone.bn1.weight'
    source = {name: torch.ones(32), f'module.{name}': torch.zeros(32)}
    with pytest.raises(UserError, match='mixes two models'):
        tool.convert(source)


def test_a_file_becomes_one_that_mmengine_loads(tool, tmp_path, capsys):
    source, target = tmp_path / 'theirs.pth', tmp_path / 'new' / 'ours.pth'
    torch.save(dict(state_dict_ema=checkpoint(SIZES['d0'])), source)
    assert tool.main([str(source), str(target)]) == EXIT_OK
    assert '0 left out' in capsys.readouterr().out
    load_checkpoint(detector(SIZES['d0']), str(target), strict=True)


def test_other_classes_keep_all_but_the_classifier(tool, tmp_path):
    source, target = tmp_path / 'theirs.pth', tmp_path / 'ours.pth'
    torch.save(checkpoint(SIZES['d0']), source)
    tool.main([str(source), str(target)])
    model = detector(SIZES['d0'], num_classes=4)
    before = model.state_dict()
    before = {key: value.clone() for key, value in before.items()}
    load_checkpoint(model, str(target), strict=False)
    same = {k for k, v in model.state_dict().items() if v.equal(before[k])}
    classifier = 'bbox_head.retina_cls.pointwise'
    assert same == {f'{classifier}.weight', f'{classifier}.bias'}


def test_unknown_keys_are_listed_and_left_out(tool, tmp_path, capsys):
    source, target = tmp_path / 'theirs.pth', tmp_path / 'ours.pth'
    odd = [
        'backbone.conv_head.weight',
        'backbone.blocks.7.0.conv_dw.weight',
        'backbone.blocks.1.0.se.fc.weight',
        'fpn.cell.0.fnode.8.combine.edge_weights',
        'fpn.resample.2.conv.conv.weight',
        'class_net.predict.bn.weight',
        'anchors.boxes',
    ]
    content = {key: torch.ones(1) for key in odd}
    torch.save(content | {'backbone.bn1.weight': torch.ones(32)}, source)
    assert tool.main([str(source), str(target)]) == EXIT_INCOMPLETE
    out = capsys.readouterr().out
    assert all(f'no counterpart: {key}\n' in out for key in odd)
    written = torch.load(target, weights_only=True)['state_dict']
    assert list(written) == ['backbone.layers.0.bn.weight']


@pytest.mark.parametrize(
    ('content', 'match'),
    [
        ({'conv1.weight': torch.ones(1)}, r"got \['conv1.weight'\]"),
        ({'epoch': 3}, 'expected parameters by name'),
        ([1], 'expected parameters by name, .* got list'),
    ],
)
def test_other_files_are_refused(tool, tmp_path, content, match):
    source, target = tmp_path / 'theirs.pth', tmp_path / 'ours.pth'
    torch.save(content, source)
    with pytest.raises(UserError, match=match):
        tool.main([str(source), str(target)])
    assert not target.exists()


def test_a_missing_file_is_the_users_mistake(tool, tmp_path):
    with pytest.raises(UserError, match='can not be found'):
        tool.main([str(tmp_path / 'no.pth'), str(tmp_path / 'ours.pth')])

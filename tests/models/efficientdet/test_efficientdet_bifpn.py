"""The pyramid: its sizes, its graph, its fusion."""

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip('mmdet')

from mmskip.models import BiFPN
from mmskip.models.efficientdet import BiFPNLayer, halve


def features(*sizes, channels=(6, 7, 8), batch=2):
    return [
        torch.randn(batch, c, *size)
        for c, size in zip(channels, sizes, strict=True)
    ]


@pytest.mark.parametrize(
    ('sizes', 'expected'),
    [
        (
            [(16, 24), (8, 12), (4, 6)],
            [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)],
        ),
        ([(7, 5), (4, 3), (2, 2)], [(7, 5), (4, 3), (2, 2), (1, 1), (1, 1)]),
    ],
)
def test_levels_have_one_width_and_halve_rounding_up(sizes, expected):
    neck = BiFPN([6, 7, 8], out_channels=5, num_repeats=2)
    levels = neck(features(*sizes))
    assert [tuple(x.shape) for x in levels] == [
        (2, 5, *size) for size in expected
    ]


def test_fusion_is_the_normalised_average():
    layer = BiFPN([6, 7, 8], out_channels=5, num_repeats=1).layers[0]
    node = layer.up[1]
    node.fusion_weights.data = torch.tensor([2.0, -1.0, 1.0])
    a, b, c = torch.randn(3, 2, 5, 4, 4)
    expected = (2.0 * a + 1.0 * c) / (3.0 + 1e-4)
    torch.testing.assert_close(node.fuse([a, b, c]), expected)


def test_weights_are_at_first_equal_and_sum_to_one():
    for layer in BiFPN([6, 7, 8], out_channels=5, num_repeats=2).layers:
        for node in (*layer.down, *layer.up):
            ones = [torch.ones(1)] * len(node.fusion_weights)
            assert node.fuse(ones).item() == pytest.approx(1.0, abs=1e-4)


def test_a_layer_has_the_paths_of_the_paper():
    """Section 3.2: node by node, written out for five levels."""
    layer = BiFPNLayer([5] * 5, 5, True, None, dict(type='BN')).eval()
    p = [torch.randn(1, 5, s, s) for s in (16, 8, 4, 2, 1)]

    def finer(x):
        return F.interpolate(x, scale_factor=2, mode='nearest')

    td6 = layer.down[3]([p[3], finer(p[4])])
    td5 = layer.down[2]([p[2], finer(td6)])
    td4 = layer.down[1]([p[1], finer(td5)])
    out3 = layer.down[0]([p[0], finer(td4)])
    out4 = layer.up[0]([p[1], td4, halve(out3)])
    out5 = layer.up[1]([p[2], td5, halve(out4)])
    out6 = layer.up[2]([p[3], td6, halve(out5)])
    out7 = layer.up[3]([p[4], halve(out6)])
    for ours, expected in zip(
        layer(p), [out3, out4, out5, out6, out7], strict=True
    ):
        assert torch.equal(ours, expected)


@pytest.mark.parametrize('size', [1, 2, 4, 5, 8, 9])
def test_pooling_pads_as_tensorflow_does(size):
    """Output i sees inputs from 2i - pad on, pad = total // 2, below zero."""
    x = -1.0 - torch.rand(1, 1, 1, size).expand(1, 1, size, size)
    outputs = -(-size // 2)
    before = (2 * outputs + 1 - size) // 2
    expected = [
        x[0, 0, 0, max(2 * i - before, 0) : 2 * i - before + 3].max()
        for i in range(outputs)
    ]
    pooled = halve(x)
    assert pooled.shape == (1, 1, outputs, outputs)
    assert torch.equal(pooled[0, 0, 0], torch.stack(expected))


def test_width_of_the_backbone_needs_no_projection_if_it_fits():
    neck = BiFPN([5, 5, 5], out_channels=5, num_repeats=1)
    assert not any('lateral' in name for name, _ in neck.named_parameters())
    assert not list(neck.extra.parameters())


def test_too_few_levels_are_refused():
    with pytest.raises(ValueError, match='expected num_outs of at least 3'):
        BiFPN([6, 7, 8], out_channels=5, num_repeats=1, num_outs=2)


def test_no_repeats_are_refused():
    with pytest.raises(ValueError, match='expected num_repeats >= 1'):
        BiFPN([6, 7, 8], out_channels=5, num_repeats=0)


def test_another_number_of_inputs_is_refused():
    neck = BiFPN([6, 7, 8], out_channels=5, num_repeats=1)
    with pytest.raises(ValueError, match='expected 3 feature maps'):
        neck(features((4, 4), (2, 2), channels=(6, 7)))

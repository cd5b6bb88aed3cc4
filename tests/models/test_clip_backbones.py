"""The correlation of CorrNet, against its formula."""

import pytest
import torch

import mmskip

pytest.importorskip('mmaction')

from mmskip.models.clip_backbones import Correlation, CorrelationBlock

B, C, T, H, W = 2, 6, 3, 5, 4


def formula(layer, x):
    """The definition, one value at a time."""
    size, groups = layer.patch_size, layer.groups
    out = torch.zeros(B, size**2 * groups, T, H, W)
    offsets = [
        ((i - size // 2) * layer.dilation, (j - size // 2) * layer.dilation)
        for i in range(size)
        for j in range(size)
    ]
    for d, (dy, dx) in enumerate(offsets):
        for c in range(C):
            channel = d * groups + c // (C // groups)
            for t in range(T):
                for h in range(max(0, -dy), min(H, H - dy)):
                    for w in range(max(0, -dx), min(W, W - dx)):
                        out[:, channel, t, h, w] += (
                            layer.weight[d, c, t, 0, 0]
                            * x[:, c, max(t - 1, 0), h, w]
                            * x[:, c, t, h + dy, w + dx]
                        )
    return out


@pytest.mark.parametrize(
    ('size', 'groups', 'dilation'), [(3, 1, 1), (3, 3, 2), (1, 6, 1)]
)
def test_follows_the_formula(size, groups, dilation):
    layer = Correlation(C, T, size, groups, dilation).requires_grad_(False)
    layer.weight.normal_()
    x = torch.randn(B, C, T, H, W)
    torch.testing.assert_close(layer(x), formula(layer, x))


def test_finds_where_a_pixel_went():
    x = torch.zeros(1, 1, 2, 5, 5)
    x[0, 0, 0, 2, 2] = x[0, 0, 1, 3, 1] = 1.0  # one down, one to the left
    with torch.no_grad():
        found = Correlation(1, 2, 3)(x)[0, :, 1].nonzero().tolist()
    # Displacement (1, -1) is number 6 of 9, at the place where it was.
    assert found == [[6, 2, 2]]


def test_counts_two_products_for_each_displacement_and_feature():
    block = CorrelationBlock(24, T, 3, groups=2).eval()
    x = torch.randn(B, 24, T, H, W)
    with torch.no_grad(), mmskip.count_macs(block) as macs:
        assert block(x).shape == x.shape
    places = B * T * H * W
    counts = {k: v.executed for k, v in macs.by_module().items()}
    assert counts == {
        'reduce.conv': places * 24 * 6,
        'correlation': places * 6 * 9 * 2,
        'expand.conv': places * 2 * 9 * 24,
    }
    assert not macs.uncounted()


def test_small_layers_have_a_group_for_each_channel():
    assert CorrelationBlock(64, T).correlation.groups == 16
    assert CorrelationBlock(256, T).correlation.groups == 32


def test_gradients_reach_filters_and_both_frames():
    layer = Correlation(C, T, 3)
    x = torch.randn(B, C, T, H, W, requires_grad=True)
    layer(x).square().sum().backward()
    assert layer.weight.grad.abs().sum((0, 3, 4)).gt(0).all()
    assert x.grad.abs().amin() > 0


@pytest.mark.parametrize(
    ('options', 'match'),
    [
        (dict(patch_size=4), 'an odd positive int, got 4'),
        (dict(groups=4), 'groups to divide 6 channels, got 4'),
    ],
)
def test_options_that_make_no_sense_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        Correlation(C, T, **options)


def test_channels_without_a_quarter_are_refused():
    with pytest.raises(ValueError, match='multiple of 4'):
        CorrelationBlock(6, T)

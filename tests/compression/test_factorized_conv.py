"""Convolutions as two smaller ones."""

import copy
import pickle

import pytest
import torch
from torch import nn

import mmskip
from mmskip.compression import (
    FactorizedConv,
    factorize_conv,
    full_rank,
    macs_per_rank,
    split_of,
)
from tests.helpers.convs import CONVS_2D, CONVS_3D

METHODS = ('spatial', 'weight')
CASES = [
    (2, name, method)
    for name, options in CONVS_2D.items()
    for method in METHODS
    if 'groups' not in options
] + [
    (3, name, 'weight')
    for name, options in CONVS_3D.items()
    if 'groups' not in options
]
SIZE = {2: (11, 14), 3: (4, 7, 9)}


def make(dim, name):
    torch.manual_seed(0)
    kind, options = {
        2: (nn.Conv2d, CONVS_2D),
        3: (nn.Conv3d, CONVS_3D),
    }[dim]
    x = torch.randn(2, 4, *SIZE[dim], dtype=torch.float64)
    return kind(4, 6, **options[name]).double(), x


def most(conv, method):
    return full_rank(conv.weight.shape, split_of(conv, method))


def matrix_of(conv, method):
    axes = split_of(conv, method)
    rows = conv.weight.shape[1 : 2 + axes].numel()
    return conv.weight.movedim(0, -1).reshape(rows, -1)


def counted(layer, x):
    with mmskip.count_macs(layer) as macs:
        y = layer(x)
    assert macs.uncounted() == {}
    return y, macs.total()


@pytest.mark.parametrize(('dim', 'name', 'method'), CASES)
def test_the_full_rank_equals_the_plain_layer(dim, name, method):
    conv, x = make(dim, name)
    expected = conv(x)

    factorize_conv(conv, method, most(conv, method))

    assert type(conv) is FactorizedConv
    torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize('rank', [1, 3])
@pytest.mark.parametrize(('dim', 'name', 'method'), CASES)
def test_macs_are_the_closed_form(dim, name, method, rank):
    conv, x = make(dim, name)
    shape = conv(x).shape
    each = macs_per_rank(conv, method, x.shape, shape)
    dense = shape.numel() * conv.weight[0].numel()

    factorize_conv(conv, method, rank)
    y, total = counted(conv, x)

    assert y.shape == shape
    assert total == (dense, rank * each, 0, 0)


def test_spatial_macs_in_numbers():
    """3 x 3 with stride 2 on 11 x 14: 6 x 14 columns first, then 6 x 7."""
    conv = nn.Conv2d(4, 8, 3, stride=2, padding=1)
    factorize_conv(conv, 'spatial', 5)

    _, total = counted(conv, torch.randn(1, 4, 11, 14))

    assert total.dense == 6 * 7 * 8 * 4 * 9
    assert total.executed == 6 * 14 * 5 * 4 * 3 + 6 * 7 * 8 * 5 * 3


def test_weight_macs_in_numbers():
    conv = nn.Conv2d(4, 8, 3, stride=2, padding=1)
    factorize_conv(conv, 'weight', 5)

    _, total = counted(conv, torch.randn(1, 4, 11, 14))

    assert total.dense == 6 * 7 * 8 * 4 * 9
    assert total.executed == 6 * 7 * 5 * 4 * 9 + 6 * 7 * 8 * 5


@pytest.mark.parametrize('method', ['spatial', 'weight'])
@pytest.mark.parametrize('name', ['plain', 'no-bias'])
def test_plain_weights_are_factorised_when_loaded(name, method):
    conv, x = make(2, name)
    other, _ = make(2, name)
    nn.init.normal_(other.weight)
    factorize_conv(conv, method, 3)

    found = conv.load_state_dict(other.state_dict(), strict=True)

    assert not found.missing_keys
    factorize_conv(other, method, 3)
    assert torch.equal(conv(x), other(x))


def test_its_own_weights_load_as_they_are():
    conv, x = make(2, 'plain')
    factorize_conv(conv, 'spatial', 3)
    nn.init.normal_(conv.first.weight)
    other, _ = make(2, 'plain')
    factorize_conv(other, 'spatial', 3)

    other.load_state_dict(conv.state_dict(), strict=True)

    assert torch.equal(conv(x), other(x))
    assert list(conv.state_dict()) == [
        'first.weight',
        'second.weight',
        'second.bias',
    ]


def test_plain_weights_of_another_shape_are_named():
    conv, _ = make(2, 'plain')
    factorize_conv(conv, 'spatial', 3)

    with pytest.raises(RuntimeError, match='size mismatch for weight'):
        conv.load_state_dict(nn.Conv2d(4, 6, 5).state_dict())


@pytest.mark.parametrize(('dim', 'name', 'method'), CASES)
def test_revert_gives_the_product_weight(dim, name, method):
    conv, x = make(dim, name)
    plain = copy.deepcopy(conv)
    factorize_conv(conv, method, 2)
    expected = conv(x)

    conv.revert()

    assert type(conv) is type(plain)
    assert str(conv) == str(plain)
    assert list(conv.state_dict()) == list(plain.state_dict())
    assert vars(conv).keys() == vars(plain).keys()
    torch.testing.assert_close(conv(x), expected)
    assert torch.linalg.matrix_rank(matrix_of(conv, method)) == 2


def test_factors_learn_and_frozen_weights_stay_so():
    conv, x = make(2, 'plain')
    frozen = copy.deepcopy(conv).requires_grad_(False)
    for layer in (conv, frozen):
        factorize_conv(layer, 'spatial', 2)
    conv(x).sum().backward()

    assert all(p.grad.abs().sum() > 0 for p in conv.parameters())
    assert not any(p.requires_grad for p in frozen.parameters())


def test_copies_and_pickles_leave_the_ledger_behind():
    conv, x = make(2, 'plain')
    factorize_conv(conv, 'spatial', 2)
    with mmskip.count_macs(conv):
        copies = [copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))]

    for other in copies:
        assert other._ledger is None
        assert torch.equal(other(x), conv(x))

"""Which rank each layer gets, under a budget of MACs."""

import itertools
from math import log

import pytest
import torch
from torch import nn

import mmskip
from mmskip import SVDConversion
from mmskip.compression import Spectrum, choose_ranks, measure_spectra
from mmskip.reading import InputError


def spectrum(name, *values, dense=100, per_rank=10):
    return Spectrum(name, torch.tensor(values), dense, per_rank)


def cost(layers, ranks):
    return sum(
        x.per_rank * ranks[x.name] if x.name in ranks else x.dense
        for x in layers
    )


def energy(layers, ranks):
    """Logarithm of the product of the shares of energy that are kept."""
    total = 0.0
    for layer in layers:
        squares = layer.values.double().square()
        kept = squares[: ranks.get(layer.name)].sum()
        total += log(kept / squares.sum())
    return total


@pytest.fixture
def layers():
    torch.manual_seed(1)
    return [
        Spectrum('a', torch.rand(5).sort(descending=True).values, 60, 10),
        Spectrum('b', torch.rand(6).sort(descending=True).values, 50, 10),
        Spectrum('c', torch.rand(3).sort(descending=True).values, 40, 10),
    ]


@pytest.mark.parametrize('budget', range(30, 151, 10))
def test_no_other_ranks_of_that_cost_keep_more(layers, budget):
    """Where all steps cost the same but the last, greed is at its best."""
    ranks = choose_ranks(layers, budget)
    spent = cost(layers, ranks)
    assert spent <= budget

    for levels in itertools.product(range(1, 7), repeat=3):
        other = {
            layer.name: level
            for layer, level in zip(layers, levels, strict=True)
            if level <= min((layer.dense - 1) // 10, len(layer.values))
        }
        if cost(layers, other) <= spent:
            assert energy(layers, other) <= energy(layers, ranks) + 1e-9


def test_nothing_that_fits_is_left_out(layers):
    for budget in range(30, 151):
        ranks = choose_ranks(layers, budget)
        left = budget - cost(layers, ranks)
        for layer in layers:
            rank = ranks.get(layer.name)
            if rank is not None and rank < len(layer.values):
                next_cost = min(layer.dense, layer.per_rank * (rank + 1))
                assert next_cost - layer.per_rank * rank > left


def test_energy_per_mac_decides():
    cheap = spectrum('cheap', 2.0, 1.0, per_rank=10)
    dear = spectrum('dear', 2.0, 1.0, per_rank=20)

    assert choose_ranks([dear, cheap], 50) == {'dear': 1, 'cheap': 2}


def test_equal_layers_are_served_in_their_order():
    layers = [spectrum(name, 2.0, 1.0) for name in 'xyz']

    assert choose_ranks(layers, 40) == {'x': 2, 'y': 1, 'z': 1}
    assert choose_ranks(layers, 50) == {'x': 2, 'y': 2, 'z': 1}


def test_a_layer_whose_rank_one_costs_more_stays_plain():
    layers = [spectrum('a', 2.0, 1.0), spectrum('b', 1.0, 1.0, dense=9)]

    assert choose_ranks(layers, 19) == {'a': 1}


def test_a_layer_that_loses_nothing_stays_factorised():
    layers = [spectrum('a', 2.0, 0.0, 0.0), spectrum('b', 0.0, 0.0)]

    assert choose_ranks(layers, 1000) == {'a': 1, 'b': 1}


def test_all_fits_in_a_large_budget(layers):
    ranks = choose_ranks(layers, 150)

    assert energy(layers, ranks) == pytest.approx(0)


def test_a_budget_below_rank_one_everywhere_is_refused(layers):
    with pytest.raises(InputError, match='at least 30 MACs'):
        choose_ranks(layers, 29)


@pytest.mark.parametrize('method', ['spatial', 'weight'])
@pytest.mark.parametrize('share', [0.3, 0.5, 0.8])
def test_the_budget_holds_for_the_counted_model(method, share):
    torch.manual_seed(0)
    shared = nn.Conv2d(16, 16, 3, padding=1)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 7, stride=2, padding=3), shared, shared,
        nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Conv2d(16, 24, 1),
    )  # fmt: skip
    x = torch.randn(1, 3, 33, 31)
    with mmskip.count_macs(net) as macs:
        net(x)
    dense = macs.total().executed
    layers = measure_spectra(net, lambda: net(x), method)
    others = dense - sum(layer.dense for layer in layers)
    assert others == 17 * 16 * 16 * 9

    ranks = choose_ranks(layers, int(share * dense) - others)
    mmskip.convert(net, SVDConversion(method, ranks=ranks))
    with mmskip.count_macs(net) as macs:
        net(x)

    assert macs.total().dense == dense
    assert macs.total().executed == cost(layers, ranks) + others
    assert share * 0.95 * dense < macs.total().executed <= share * dense


def test_layers_that_do_not_run_are_left_alone():
    net = nn.ModuleDict(dict(a=nn.Conv2d(3, 4, 3), b=nn.Conv2d(3, 4, 3)))

    layers = measure_spectra(
        net, lambda: net['b'](torch.zeros(1, 3, 5, 5)), 'spatial'
    )

    assert [(x.name, x.dense) for x in layers] == [('b', 9 * 4 * 27)]
    assert not net['b']._forward_hooks

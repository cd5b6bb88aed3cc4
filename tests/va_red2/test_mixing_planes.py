"""Sums of planes equal a dense product and have its gradients."""

import pytest
import torch
from torch import nn

from mmskip.va_red2.mixing import PlanePattern, mix_planes

# Sums of one, two, three terms; plane 3 is in none, plane 0 in three.
TERMS = ((0, 1), (1, 0), (1, 2), (2, 0), (2, 2), (2, 4), (3, 0))
SOURCES, OUTPUTS = 5, 4


def make_pattern(terms=TERMS, planes=(SOURCES, OUTPUTS)):
    targets, sources = torch.tensor(terms).unbind(1)
    return PlanePattern.of(sources, targets, planes)


def make_inputs(samples=2, length=3, terms=TERMS):
    y = torch.randn(samples, SOURCES, length, dtype=torch.float64)
    values = torch.randn(samples, len(terms), dtype=torch.float64)
    return y, values


def dense(y, values, terms=TERMS):
    """The same with a matrix (N, P_out, P_in)."""
    matrix = y.new_zeros(len(y), OUTPUTS, y.shape[1])
    for column, (target, source) in enumerate(terms):
        matrix[:, target, source] += values[:, column]
    return matrix @ y


@pytest.mark.parametrize('samples', [1, 3])
@pytest.mark.parametrize('length', [1, 7])
@pytest.mark.parametrize('learns', [False, True])
def test_it_is_a_sparse_matrix_product(samples, length, learns):
    y, values = make_inputs(samples, length)
    y.requires_grad_(learns)
    mixed = mix_planes(y, values, make_pattern())
    assert mixed.shape == (samples, OUTPUTS, length)
    assert mixed.requires_grad == learns
    torch.testing.assert_close(mixed, dense(y, values))


def test_a_plane_may_be_summed_twice():
    terms = ((0, 1), (0, 1), (1, 0), (2, 4), (3, 2))
    y, values = make_inputs(terms=terms)
    mixed = mix_planes(y, values, make_pattern(terms))
    torch.testing.assert_close(mixed, dense(y, values, terms))


def test_samples_do_not_mix():
    """Not by values that are no numbers either."""
    y, values = make_inputs()
    alone = mix_planes(y[1:], values[1:], make_pattern())
    y[0], values[0] = torch.nan, torch.inf
    assert torch.equal(mix_planes(y, values, make_pattern())[1:], alone)


@pytest.mark.parametrize(
    ('of_y', 'of_values'), [(True, False), (False, True), (True, True)]
)
def test_gradients_are_exact(of_y, of_values):
    y, values = make_inputs()
    y.requires_grad_(of_y)
    values.requires_grad_(of_values)
    pattern = make_pattern()
    assert torch.autograd.gradcheck(
        lambda y, values: mix_planes(y, values, pattern), (y, values)
    )


def test_gradients_are_those_of_the_dense_product():
    """Also of a plane in no sum, and with a gradient that is a view."""
    y, values = make_inputs()
    inputs = [y.requires_grad_(), values.requires_grad_()]
    weight = torch.randn(2, 3, OUTPUTS, dtype=torch.float64).transpose(1, 2)
    found = torch.autograd.grad(
        (mix_planes(y, values, make_pattern()) * weight).sum(), inputs
    )
    expected = torch.autograd.grad((dense(y, values) * weight).sum(), inputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert not found[0][:, 3].any()


def test_what_needs_no_gradient_gets_none():
    y, values = make_inputs()
    weight = nn.Parameter(values)
    mix_planes(y, weight, make_pattern()).sum().backward()
    assert y.grad is None
    torch.testing.assert_close(
        weight.grad, y.sum(2)[:, [source for _, source in TERMS]]
    )


def test_without_gradients_nothing_is_kept():
    y, values = make_inputs()
    y.requires_grad_()
    with torch.no_grad():
        assert mix_planes(y, values, make_pattern()).grad_fn is None


def test_the_pattern_can_be_read_by_source():
    """What backward needs: for each plane the sums that it is in."""
    pattern = make_pattern()
    ends = [*pattern.source_starts.tolist()[1:], len(TERMS)]
    for source, (start, end) in enumerate(
        zip(pattern.source_starts.tolist(), ends, strict=True)
    ):
        sums = pattern.targets[start:end].tolist()
        assert sums == [target for target, s in TERMS if s == source]
        order = pattern.order[start:end]
        assert (pattern.sources[order] == source).all()

"""Few cells of a large product in which every pair of values meets."""

from collections.abc import Callable, Iterable
from itertools import combinations, product

import pytest


def cells_with_all_pairs(
    *axes: Iterable, valid: Callable[..., bool] = lambda *_: True
) -> list[tuple]:
    """Choose cells of a product so that any two values of it meet in one.

    Most faults show with two options at a time, so that these cells find
    what the whole product would, at a fraction of its time. They are chosen
    greedily and are the same in every run.

    Args:
        *axes: Values of each option.
        valid: Tells of a cell if it makes sense; the others are left out,
            and so are pairs that meet in them only.

    Returns:
        The cells, in the order of the product.
    """
    axes = [tuple(axis) for axis in axes]
    cells = [cell for cell in product(*axes) if valid(*cell)]
    pairs = [_pairs(axes, cell) for cell in cells]
    missing, chosen = set().union(*pairs), set()
    while missing:
        best = max(range(len(cells)), key=lambda i: len(pairs[i] & missing))
        missing -= pairs[best]
        chosen.add(best)
    return [cells[index] for index in sorted(chosen)]


def _pairs(axes, cell):
    places = [
        axis.index(value) for axis, value in zip(axes, cell, strict=True)
    ]
    return set(combinations(enumerate(places), 2))


def every_pair(
    names: str,
    *axes: Iterable,
    valid: Callable[..., bool] = lambda *_: True,
) -> pytest.MarkDecorator:
    """Parametrise a test with :func:`cells_with_all_pairs`.

    Args:
        names: The test's arguments, separated by commas.
        *axes: Values of each of them.
        valid: Tells of a cell if it makes sense.
    """
    cells = cells_with_all_pairs(*axes, valid=valid)
    return pytest.mark.parametrize(names, cells)

"""Every pair of values that makes sense meets in a cell."""

from itertools import combinations, product

from tests.helpers.pairwise import cells_with_all_pairs


def pairs_of(cells):
    return {pair for cell in cells for pair in combinations(cell, 2)}


def test_all_pairs_meet_in_few_cells():
    axes = 'abcd', 'xyz', 'pq', '01'

    cells = cells_with_all_pairs(*axes)

    assert pairs_of(cells) == pairs_of(product(*axes))
    assert len(cells) < 48 / 3
    assert cells == cells_with_all_pairs(*axes)


def test_cells_that_make_no_sense_are_left_out():
    cells = cells_with_all_pairs('ab', 'xy', '01', valid=lambda a, x, n: a < x)
    assert len(cells) == 4
    cells = cells_with_all_pairs('ab', 'xy', valid=lambda a, x: a + x != 'ay')
    assert cells == [('a', 'x'), ('b', 'x'), ('b', 'y')]

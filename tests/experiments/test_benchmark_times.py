"""What is read off the rows of a benchmark."""

import pytest

from mmskip.experiments import best_of_pairs, break_even


def rows(*shares, pair='eager'):
    return [
        dict(pair=pair, pattern='blob', active=active, share_of_dense=share)
        for active, share in shares
    ]


def test_break_even_lies_between_the_rows_of_a_pair():
    table = rows((0.0, 0.2), (0.5, 0.8), (1.0, 1.2))
    table += rows((0.0, 0.2), (1.0, 0.9), pair='compiled')

    assert break_even(table, 'blob') == pytest.approx(0.75)
    assert break_even(table, 'blob', 'compiled') is None


def test_the_best_skip_is_compared_with_the_best_dense():
    times = dict(eager=(80.0, 20.0), compiled=(60.0, 30.0))
    table = [
        dict(
            pair=pair,
            pattern='blob',
            active=0.25,
            mac_reduction=4.0,
            dense_ms=dense,
            skip_ms=skip,
        )
        for pair, (dense, skip) in times.items()
    ]

    (best,) = best_of_pairs(table)

    assert best['speed_up'] == 3
    assert (best['dense_ms'], best['skip_ms']) == (60, 20)

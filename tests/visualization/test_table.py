import io

import pytest
from rich.console import Console

from mmskip.visualization import print_comparison, print_table, results_table
from tests.visualization.rows import make_rows


def printed(rows):
    console = Console(file=io.StringIO(), force_terminal=False, width=40)
    print_table(rows, console, 'Results')
    return console.file.getvalue()


def test_every_number_is_whole_in_a_narrow_pipe():
    text = printed(make_rows())
    for cell in (
        'Results', 'output_norm', '0.05', '0.600', '0.800', '2.50x', '12.5',
        'reference', 'GMAC/', 'torch',
    ):  # fmt: skip
        assert cell in text
    assert '…' not in text


def test_what_nobody_measured_is_a_dash():
    first, *others = make_rows()
    assert ' - ' in printed([dict(first, ms_per_frame=None), *others])


def test_without_times_there_is_no_column_for_them():
    rows = [dict(row, ms_per_frame=None) for row in make_rows()]
    assert 'ms/' not in printed(rows)
    assert 'ms/' in printed(make_rows())


def test_without_settings_there_is_no_column_for_them():
    rows = [dict(row, setting=None) for row in make_rows()]
    headers = [column.header for column in results_table(rows).columns]
    assert headers == [
        'method', 'AP', 'AP50', 'GMAC/\nframe', 'reduction', 'ms/\nframe',
        'backend',
    ]  # fmt: skip


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match='at least one row'):
        results_table([])


def test_a_mean_over_seeds_has_its_spread():
    rows = make_rows()
    rows[1]['AP_std'] = 0.02
    text = printed(rows)
    assert '0.600 ± 0.020' in text
    assert '0.550 ±' not in text


def test_a_comparison_says_what_is_out_of_range():
    shared = dict(gmac=3.0, seeds=2, gmac_from=2.0, gmac_to=4.0)
    rows = [
        dict(method='near', AP=0.5, AP_std=0.01, **shared),
        dict(method='far', AP=None, AP_std=None, **shared),
    ]
    console = Console(file=io.StringIO(), force_terminal=False, width=40)
    print_comparison(rows, console)
    near, far = [
        line for line in console.file.getvalue().splitlines() if 'ar ' in line
    ]
    assert '0.500 ± 0.010' in near
    assert 'out of range' in far
    assert '2 to 4' in far

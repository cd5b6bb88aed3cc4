import pytest

from mmskip.visualization import plot_error_vs_macs


def test_the_picture_is_where_it_was_asked_for(tmp_path):
    rows = [
        dict(method='one', share=0.5, error=0.1, chosen=True),
        dict(method='one', share=0.9, error=0.0),
        dict(method='many', share=0.4, error=0.1),
    ]
    path = plot_error_vs_macs(rows, tmp_path / 'new' / 'plot.png')
    assert path.stat().st_size > 0


def test_no_rows_are_refused(tmp_path):
    with pytest.raises(ValueError, match='at least one row'):
        plot_error_vs_macs([], tmp_path / 'plot.png')

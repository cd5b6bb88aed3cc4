import re

import cv2
import pytest

from mmskip.visualization import plot_accuracy_vs_macs
from tests.visualization.rows import make_rows


@pytest.mark.parametrize('suffix', ['.png', '.svg', '.pdf'])
def test_the_plot_is_written_in_the_format_of_its_suffix(tmp_path, suffix):
    path = tmp_path / 'new folder' / f'plot{suffix}'
    assert plot_accuracy_vs_macs(make_rows(), path) == path
    assert path.stat().st_size > 1000


def test_methods_are_lines_and_dense_is_a_guide(tmp_path):
    path = plot_accuracy_vs_macs(make_rows(), tmp_path / 'a.svg')
    text = path.read_text()
    for label in ('Dense', 'output-norm gates', 'Frame skip', '2.5×'):
        assert f'<!-- {label}' in text or label in text


def test_one_row_is_enough(tmp_path):
    path = plot_accuracy_vs_macs(make_rows()[1:2], tmp_path / 'a.png', 'Title')
    assert cv2.imread(str(path)).shape == (630, 960, 3)


def test_no_rows_are_refused(tmp_path):
    with pytest.raises(ValueError, match='at least one row'):
        plot_accuracy_vs_macs([], tmp_path / 'a.png')


def test_a_mean_over_seeds_has_bars(tmp_path):
    rows = make_rows()
    plain = plot_accuracy_vs_macs(rows, tmp_path / 'a.svg').read_text()
    rows[1] |= dict(AP_std=0.02, gmac_per_frame_std=0.1)
    bars = plot_accuracy_vs_macs(rows, tmp_path / 'b.svg').read_text()
    assert len(bars) > len(plain)


def test_many_points_are_not_annotated(tmp_path):
    few = plot_accuracy_vs_macs(make_rows(), tmp_path / 'a.svg').read_text()
    rows = make_rows() * 4
    many = plot_accuracy_vs_macs(rows, tmp_path / 'b.svg').read_text()
    assert '2.5×' in few
    assert '2.5×' not in many


def test_each_of_many_methods_is_told_apart(tmp_path):
    row = make_rows()[1]
    rows = [
        dict(row, method=f'method {n}', AP=0.5 + n / 100) for n in range(10)
    ]
    text = plot_accuracy_vs_macs(rows, tmp_path / 'a.svg').read_text()
    lines = re.findall(r'<path d="[^"]*" [^>]*style="([^"]*)"', text)
    dotted = [line for line in lines if 'stroke-dasharray' in line]
    assert len(dotted) == 2 * 2  # and in the legend
    assert all(f'<!-- method {n} -->' in text for n in range(10))

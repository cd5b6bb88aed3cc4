import pytest

from mmskip.evaluation import POSE
from mmskip.visualization import (
    plot_bars,
    plot_expected_vs_measured,
    plot_intervals,
)
from tests.visualization.rows import make_rows


def test_bars_name_stages_and_series(tmp_path):
    bars = {'beta 1': {'stem': 0.5, 'head': 0.25}, 'beta 2': {'head': 1.0}}
    text = plot_bars(bars, tmp_path / 'a.svg', 'share').read_text()
    for label in ('beta 1', 'beta 2', 'stem', 'head', 'share'):
        assert f'<!-- {label}' in text


def test_layers_are_coloured_by_their_part(tmp_path):
    rows = [
        dict(part=part, expected=0.5, measured=0.4, gmac_per_frame=gmac)
        for part, gmac in (('neck', 1.0), ('head', 2.0))
    ]
    path = plot_expected_vs_measured(rows, tmp_path / 'a.svg')
    text = path.read_text()
    assert '<!-- neck' in text
    assert '<!-- head' in text


@pytest.mark.parametrize('methods', [1, 2])
def test_the_whole_video_is_the_last_interval(tmp_path, methods):
    intervals = (None, 4, 2)[: 4 - methods]
    rows = [
        dict(row, interval=interval, method=f'clips of {n}')
        for n in range(methods)
        for row, interval in zip(make_rows(), intervals, strict=False)
    ]
    text = plot_intervals(rows, tmp_path / 'a.svg').read_text()
    assert text.index('<!-- 4') < text.index('<!-- whole video')
    assert ('clips of 0' in text) == (methods > 1)


def test_intervals_are_of_what_a_task_is_judged_by(tmp_path):
    rows = [
        dict(row, PCK=row['AP'], interval=interval)
        for row, interval in zip(make_rows(), (1, 2, 4, None), strict=True)
    ]
    text = plot_intervals(rows, tmp_path / 'a.svg', POSE).read_text()
    assert '<!-- PCK' in text
    assert '<!-- AP' not in text

import io
import re

import pytest
from rich.console import Console

from mmskip.apis import FrameResult, StreamProgress, StreamTotals
from mmskip.core import MacCount


def result(executed, seconds):
    cost = MacCount(4_000_000_000, executed, 0, 0)
    return FrameResult(0, None, None, cost, None, seconds)


def two_frames():
    totals = StreamTotals()
    totals.add(result(4_000_000_000, 9.0))
    totals.add(result(1_000_000_000, 0.5))
    return totals


def test_totals_are_per_frame_with_the_reference_frame():
    summary = two_frames().summary()
    assert summary['frames'] == 2
    assert summary['gmac_per_frame'] == 2.5
    assert summary['dense_gmac_per_frame'] == 4.0
    assert summary['reduction'] == pytest.approx(1.6)


def test_the_time_leaves_out_the_warm_up():
    assert two_frames().summary()['ms_per_frame'] == 500
    assert two_frames().summary()['ms_first'] == 9000
    totals = StreamTotals()
    totals.add(result(1, 9.0))
    assert totals.ms_per_frame == 9000


def test_no_frames_are_no_error():
    assert StreamTotals().summary()['reduction'] == 1


@pytest.mark.parametrize('num_frames', [2, None])
def test_outside_a_terminal_a_plain_line_comes_now_and_then(num_frames):
    console = Console(file=io.StringIO(), force_terminal=False)
    totals = two_frames()
    with StreamProgress(console, num_frames, interval=0) as progress:
        progress.update(totals)
    text = console.file.getvalue()
    pattern = r'2\.5 GMAC/frame, 1\.60x fewer than dense'
    assert re.search(pattern, text)
    assert ('0 s left' in text) == (num_frames is not None)
    assert '\x1b' not in text


def test_between_the_lines_it_is_quiet():
    console = Console(file=io.StringIO(), force_terminal=False)
    with StreamProgress(console, 2, interval=1000) as progress:
        progress.update(two_frames())
    assert not console.file.getvalue().strip()


def test_in_a_terminal_there_is_a_bar():
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with StreamProgress(console, 4) as progress:
        progress.update(two_frames())
    text = console.file.getvalue()
    assert '2/4' in text
    assert 'GMAC/frame, 1.60x fewer than dense' in text

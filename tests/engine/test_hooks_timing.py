"""The watch."""

import time

from mmskip.engine import Stopwatch


def test_it_measures_from_start_to_stop_once():
    watch = Stopwatch()
    assert watch.stop() is None
    watch.start()
    time.sleep(0.01)
    assert watch.stop() >= 0.01
    assert watch.stop() is None


def test_a_new_start_forgets_the_last():
    watch = Stopwatch()
    watch.start()
    time.sleep(0.02)
    watch.start()
    assert watch.stop() < 0.02

"""Windows on a display that is there, though nobody sees it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import cv2
import pytest

from mmskip.reading import InputError
from mmskip.video import check_display
from tests.video.windows import PATIENCE, XVFB, Display

needs_display = pytest.mark.skipif(
    XVFB is None or not cv2.currentUIFramework(),
    reason='needs Xvfb, and an OpenCV with windows',
)

# Shows red pictures of 64 x 48 below a black caption, until it is ended.
PROGRAM = """
import time
import numpy as np
from mmskip.core import MacCount
from mmskip.video import FrameResult
from mmskip.video.results import ShowWindow

image = np.full((48, 64, 3), (0, 0, 255), np.uint8)
cost = MacCount(1, 1, 0, 0)
try:
    with ShowWindow(lambda image, _: image, 'door') as window:
        for index in range(6):
            window.write(FrameResult(index, image, None, cost, None, 0, 0))
        print('shown', flush=True)
        while True:
            window.attend()
            time.sleep(0.01)
except KeyboardInterrupt:
    print('ended', flush=True)
"""


@pytest.fixture
def display(tmp_path):
    with Display(tmp_path) as display:
        yield display


@pytest.fixture
def start(display):
    """Start the program on the display; more than one may be started."""
    with ExitStack() as programs:

        def start():
            process = subprocess.Popen(
                [sys.executable, '-c', PROGRAM],
                env={**os.environ, 'DISPLAY': display.name},
                stdout=subprocess.PIPE,
                text=True,
            )
            programs.callback(process.communicate)
            programs.callback(process.kill)
            return process

        yield start


def start_until_painted(start, display):
    """Start programs until one shows its picture; return it and its window.

    On a busy machine Qt leaves some windows unpainted for good where there is
    no window manager, whoever asks it to paint them.
    """
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        program = start()
        window = display.find('door')
        assert program.stdout.readline() == 'shown\n'
        soon = time.monotonic() + 5
        while time.monotonic() < soon:
            # As large as the picture; a quarter of that is the caption.
            if is_red(display.screen()).sum() == 64 * 36:
                return program, window
            time.sleep(0.05)
        program.kill()
        wait_for(lambda: not display.has('door'))
    raise AssertionError('no picture was shown')


def is_red(picture):
    return (picture == (0, 0, 255)).all(axis=2)


def wait_for(condition):
    end = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    assert condition()


@needs_display
@pytest.mark.parametrize('way', ['q', 'closed', 'Ctrl-C'])
def test_it_shows_pictures_until_its_user_ends_it(display, start, way):
    program, window = start_until_painted(start, display)
    if way == 'closed':
        display.close(window)
    elif way == 'Ctrl-C':
        program.send_signal(signal.SIGINT)
    else:
        display.press(window, way)
    assert program.communicate(timeout=PATIENCE)[0] == 'ended\n'
    assert program.returncode == 0
    wait_for(lambda: not is_red(display.screen()).any())


@needs_display
def test_a_display_that_cannot_be_opened_is_told(display, monkeypatch):
    monkeypatch.setenv('DISPLAY', display.name)
    check_display()
    monkeypatch.setenv('DISPLAY', ':987')
    with pytest.raises(InputError, match=r'got :987 \(.*--out'):
        check_display()


@needs_display
def test_windows_that_are_gone_do_not_end_the_tests(display, start):
    gone = 12345
    display.press(gone, 'q')
    program = start()
    window = display.find('door')
    assert program.stdout.readline() == 'shown\n'
    display.press(window, 'q')
    assert program.communicate(timeout=PATIENCE)[0] == 'ended\n'

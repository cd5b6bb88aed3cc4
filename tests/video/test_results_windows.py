"""Windows on a display that is there, though nobody sees it."""

import os
import signal
import subprocess
import sys
import time

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
def program(display):
    process = subprocess.Popen(
        [sys.executable, '-c', PROGRAM],
        env={**os.environ, 'DISPLAY': display.name},
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def is_red(picture):
    return (picture == (0, 0, 255)).all(axis=2)


def wait_for(condition):
    end = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    assert condition()


@needs_display
@pytest.mark.parametrize('way', ['q', 'closed', 'Ctrl-C'])
def test_it_shows_pictures_until_its_user_ends_it(display, program, way):
    window = display.find('door')
    assert program.stdout.readline() == 'shown\n'
    # As large as the picture; a quarter of that is the caption.
    wait_for(lambda: is_red(display.screen()).sum() == 64 * 36)
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
def test_windows_that_are_gone_do_not_end_the_tests(display, program):
    gone = 12345
    display.press(gone, 'q')
    window = display.find('door')
    assert program.stdout.readline() == 'shown\n'
    display.press(window, 'q')
    assert program.communicate(timeout=PATIENCE)[0] == 'ended\n'

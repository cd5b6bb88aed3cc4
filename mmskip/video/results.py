"""Results as pictures, and checks of where outputs may go."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np
from torch import nn

from mmskip.reading import InputError
from mmskip.visualization import PredictionDrawer, caption, tint

from .logs import check_log_path
from .reader import FrameResult
from .writer import VideoWriter, check_video_path

GIGA = 1e9
#: Pixels of a new window, at most.
WINDOW_WIDTH, WINDOW_HEIGHT = 1280, 720
#: What tells whether windows can be shown.
TRIAL = "import cv2; cv2.namedWindow('mmskip'); cv2.destroyAllWindows()"
TRIAL_SECONDS = 60


def draw_result(result: FrameResult, drawer: PredictionDrawer) -> np.ndarray:
    """Draw a frame as people see it: predictions, computed pixels, cost.

    Args:
        result: The frame and what was found in it.
        drawer: Draws the predictions.

    Returns:
        (H, W, 3) uint8, BGR.
    """
    image = result.frame
    cost = result.cost
    text = (
        f'{result.index}: {cost.spent / GIGA:.3g} of '
        f'{cost.dense / GIGA:.3g} GMAC'
    )
    if result.computed_mask is not None:
        image = tint(image, result.computed_mask)
        text += ', tinted: computed'
    return caption(drawer(image, result.prediction), text)


class ResultVideo:
    """A video of predictions over a layer that shows the computed pixels.

    The file is opened at the first frame: a source that gives none leaves
    an older file of that name alone.

    Args:
        path: See :class:`VideoWriter`.
        fps: Frames per second.
        drawer: Draws the predictions.
        warn: Takes each warning, one line of text.
        keep_times: Show each frame at its own time; else all of them at a
            constant rate.

    Raises:
        InputError: An unknown suffix; while writing, a file that cannot be
            written.
    """

    def __init__(
        self,
        path: str | Path,
        fps: float,
        drawer: PredictionDrawer,
        warn: Callable[[str], Any] = print,
        keep_times: bool = True,
    ) -> None:
        self.path = check_video_path(path)
        self._fps = fps
        self._drawer = drawer
        self._warn = warn
        self._keep_times = keep_times
        self._writer: VideoWriter | None = None

    def __enter__(self) -> 'ResultVideo':
        return self

    def __exit__(self, *error: Any) -> None:
        if self._writer is not None:
            self._writer.__exit__(*error)

    def write(self, result: FrameResult) -> None:
        """Append a frame, which is drawn later: do not change it."""
        if self._writer is None:
            height, width = result.frame.shape[:2]
            self._writer = VideoWriter(
                self.path, (width, height), self._fps, self._warn
            )
        moment = result.time if self._keep_times else None
        self._writer.write(partial(draw_result, result, self._drawer), moment)


def check_display() -> None:
    """Make sure that windows can be shown, before any work is done.

    Raises:
        InputError: There is no display, it cannot be opened, or OpenCV came
            without windows.
    """
    reason = None
    if not cv2.currentUIFramework():
        reason = 'an OpenCV without windows'
    elif sys.platform.startswith('linux'):
        variables = ('DISPLAY', 'WAYLAND_DISPLAY')
        displays = filter(None, map(os.environ.get, variables))
        reason = _why_not_shown(next(displays, ''))
    if reason is not None:
        raise InputError(
            f'cannot show pictures: expected a display, got {reason}; write a '
            'video with --out instead, or log in with a display (ssh -X) and '
            'install opencv-python rather than opencv-python-headless'
        )


@cache
def _why_not_shown(display: str) -> str | None:
    """Say why a display cannot be opened; None if it can.

    Another process tries it: where a display is missing or broken, OpenCV
    does not tell but ends the process.
    """
    if not display:
        return 'none'
    try:
        tried = subprocess.run(
            [sys.executable, '-c', TRIAL],
            check=False,
            capture_output=True,
            text=True,
            timeout=TRIAL_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f'{display}, which does not answer'
    if tried.returncode == 0:
        return None
    said = tried.stderr.strip().splitlines() or ['it cannot be opened']
    return f'{display} ({said[0]})'


class ShowWindow:
    """A window that shows frames as they come.

    Closing it, ``q`` and Esc end the run, as Ctrl-C does.

    Args:
        drawer: Draws the predictions.
        title: Of the window.

    Raises:
        InputError: See :func:`check_display`.
    """

    path = None

    def __init__(self, drawer: PredictionDrawer, title: str) -> None:
        check_display()
        self._drawer = drawer
        self._title = title
        self._is_open = False

    def __enter__(self) -> 'ShowWindow':
        return self

    def __exit__(self, *_: Any) -> None:
        # The user may have closed it.
        with suppress(cv2.error):
            cv2.destroyWindow(self._title)

    def write(self, result: FrameResult) -> None:
        """Show a frame.

        Raises:
            KeyboardInterrupt: See :meth:`attend`.
        """
        image = draw_result(result, self._drawer)
        if not self._is_open:
            self._is_open = True
            cv2.namedWindow(self._title, cv2.WINDOW_GUI_NORMAL)
            height, width = image.shape[:2]
            scale = min(1, WINDOW_WIDTH / width, WINDOW_HEIGHT / height)
            size = round(scale * width), round(scale * height)
            cv2.resizeWindow(self._title, *size)
        cv2.imshow(self._title, image)
        self.attend()

    def attend(self) -> None:
        """Let the window do what the user asks of it.

        Raises:
            KeyboardInterrupt: The user closed it, or pressed ``q`` or Esc.
        """
        if not self._is_open:
            return
        pressed = cv2.waitKey(1) & 0xFF in (ord('q'), 27)
        visible = cv2.WND_PROP_VISIBLE
        if pressed or cv2.getWindowProperty(self._title, visible) < 1:
            raise KeyboardInterrupt


class ShowWindows:
    """Shows the newest results of several cameras, in the main thread.

    Args:
        model: That whose predictions are drawn, see
            :class:`mmskip.visualization.PredictionDrawer`.
        score_thr: Boxes or keypoints below this score are not drawn.
    """

    def __init__(self, model: nn.Module, score_thr: float) -> None:
        self._model = model
        self._score_thr = score_thr
        self._windows: dict[str, ShowWindow] = {}
        self._open = ExitStack()

    def __enter__(self) -> 'ShowWindows':
        return self

    def __exit__(self, *_: Any) -> None:
        self._open.close()

    def show(self, results: dict[str, FrameResult]) -> None:
        """Show results by the names of their cameras, and forget them.

        Call it also without results: a window of a camera that has none is
        to hear its user all the same.

        Raises:
            KeyboardInterrupt: The user closed a window, or pressed ``q`` or
                Esc.
        """
        for name in list(results):
            if name not in self._windows:
                drawer = PredictionDrawer(self._model, self._score_thr)
                window = ShowWindow(drawer, name)
                self._windows[name] = self._open.enter_context(window)
            self._windows[name].write(results.pop(name))
        for window in self._windows.values():
            window.attend()


def check_outputs(
    source: str | Path | int,
    videos: Mapping[str, str | Path | None],
    logs: Mapping[str, str | Path | None],
) -> None:
    """Refuse outputs that cannot be, before any work is done.

    Links and hard links are followed, and ``file://`` addresses read.

    Args:
        source: Of the frames.
        videos: Videos to write, by what a user calls them, such as
            ``--out``; ``None`` is no file.
        logs: Files of results to write, in the same way.

    Raises:
        InputError: A folder, an unknown suffix, a place that cannot be
            written to, the source itself, or one file for two outputs.
    """
    original = _local_path(source)
    checked: dict[str, Path] = {}
    for paths, check in ((videos, check_video_path), (logs, check_log_path)):
        for name, path in paths.items():
            if path is None:
                continue
            if original is not None and _is_same(Path(path), original):
                raise InputError(
                    f'{name}: {path} is the source: it would be lost; write '
                    'to another file'
                )
            try:
                check(path)
                _check_writable(Path(path))
            except InputError as error:
                raise InputError(f'{name}: {error}') from error
            for other, place in checked.items():
                if _is_same(Path(path), place):
                    raise InputError(
                        f'expected two files for {other} and {name}, got '
                        f'{place} and {path}, which are one; give one of '
                        'them another name'
                    )
            checked[name] = Path(path)


def _local_path(source: str | Path | int) -> Path | None:
    """Tell which file or folder a source is, if it is one."""
    text = str(source)
    if text.startswith('file:'):
        text = unquote(urlsplit(text).path)
    return Path(text) if Path(text).exists() else None


def _is_same(path: Path, other: Path) -> bool:
    if path.exists() and other.exists():
        return path.samefile(other)
    return path.resolve() == other.resolve()


def _check_writable(path: Path) -> None:
    """Raise InputError where a file cannot be, or cannot be replaced."""
    folder = path.resolve().parent
    while not folder.exists():
        folder = folder.parent
    why = None
    if path.exists():
        if not os.access(path, os.W_OK):
            why = 'a file that is write-protected'
    elif not folder.is_dir():
        why = f'{folder}, which is a file'
    else:
        # The rights of a folder do not tell: its disk may be read-only.
        try:
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            why = f'{folder}: {error.strerror}'
    if why is not None:
        raise InputError(
            f'cannot write {path}: expected a folder that can be written '
            f'to, got {why}; choose another or change its permissions'
        )

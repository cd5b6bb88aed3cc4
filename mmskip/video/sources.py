"""Opening whatever holds frames: a file, a folder, an address, a camera."""

import os.path
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mmskip.reading import InputError

from .live import LiveOptions, LiveReader
from .reader import FrameReader, ImageReader, VideoReader, is_image, open_file

# Of other addresses only their server knows whether they have an end.
LIVE_SCHEMES = ('rtmp', 'rtmps', 'rtp', 'rtsp', 'rtsps', 'srt', 'tcp', 'udp')


def open_reader(
    source: str | Path | int,
    warn: Callable[[str], Any] = print,
    options: LiveOptions | None = None,
) -> FrameReader:
    """Open whatever holds frames.

    Args:
        source: A video file or an image, also as ``file://...``, a folder of
            images, a named pipe, a network address (``rtsp://...``,
            ``http://...``) or the number of a camera, also as text or as
            ``/dev/video0``.
        warn: Takes each warning, one line of text.
        options: For live sources, see :class:`LiveOptions`.

    Returns:
        A reader to iterate over and to close (or to use as a context): a
        :class:`LiveReader` for cameras, named pipes and addresses without an
        end.

    Raises:
        InputError: There is no such source or it cannot be read.
    """
    if device := re.fullmatch(r'/dev/video(\d+)', str(source)):
        source = int(device[1])
    path = local_path(source)
    if path is None:
        return _open_address(source, warn, options)
    if not os.path.exists(path):
        raise InputError(f'video not found: {path}')
    if path.is_fifo():
        return LiveReader(str(path), warn, options)
    if path.is_dir() or (is_image(path) and path.is_file()):
        return ImageReader(path, warn)
    return VideoReader(str(path), warn)


def local_path(source: str | Path | int) -> Path | None:
    """Return the path of a source on this machine.

    Args:
        source: See :func:`open_reader`.

    Returns:
        The path, whether it exists or not; ``None`` for a camera and an
        address on a network.
    """
    if isinstance(source, int):
        return None
    text = str(source)
    if isinstance(source, Path) or os.path.exists(text):
        return Path(source)
    if text.isdecimal():
        return None
    if text.startswith('file:'):
        return Path(url2pathname(urlsplit(text).path))
    return None if '://' in text else Path(text)


def _open_address(
    source: str | int,
    warn: Callable[[str], Any],
    options: LiveOptions | None,
) -> FrameReader:
    text = str(source)
    if text.isdecimal():
        return LiveReader(int(text), warn, options)
    if urlsplit(text).scheme.lower() in LIVE_SCHEMES:
        return LiveReader(text, warn, options)
    options = options or LiveOptions()
    try:
        container = open_file(text, options.timeout)
    except InputError:
        if options.waits:
            return LiveReader(text, warn, options)
        raise
    if container.duration is None:
        return LiveReader(text, warn, options, container)
    return VideoReader(text, warn, container)

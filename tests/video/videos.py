"""Videos written by FFmpeg for tests: whatever a camera may put into one."""

import time
from fractions import Fraction
from pathlib import Path

import av


def write_frames(
    path, frames, codec='png', pixels='rgb24', times=None, **settings
):
    """Write images, of BGR or of deep grey, into a video.

    Args:
        path: Its suffix chooses the container.
        frames: (H, W, 3) uint8 or (H, W) uint16.
        codec: The encoder.
        pixels: Its pixel format.
        times: Milliseconds of each frame; default 25 frames per second.
        settings: ``rotation`` in degrees to the left, ``aspect`` of a pixel,
            ``options`` of the encoder and ``container`` options.
    """
    height, width = frames[0].shape[:2]
    container_options = settings.get('container', {})
    with av.open(str(path), 'w', container_options=container_options) as out:
        stream = out.add_stream(
            codec, rate=25, options=settings.get('options', {})
        )
        stream.width, stream.height = width, height
        stream.pix_fmt = pixels
        stream.time_base = Fraction(1, 1000)
        stream.codec_context.time_base = Fraction(1, 1000)
        if 'aspect' in settings:
            stream.codec_context.sample_aspect_ratio = settings['aspect']
        if 'rotation' in settings:
            stream.set_display_rotation(settings['rotation'])
        for number, image in enumerate(frames):
            given = 'bgr24' if image.ndim == 3 else 'gray16le'
            frame = av.VideoFrame.from_ndarray(image, given)
            frame.pts = times[number] if times else 40 * number
            frame.time_base = Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return Path(path)


def wait_until(is_so, seconds=5.0):
    """Wait for something that another thread does."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)

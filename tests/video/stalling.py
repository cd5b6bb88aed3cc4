"""Cameras on 127.0.0.1 that stop, drop their clients and deliver damage."""

import itertools
import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import cv2

HEAD = (
    b'HTTP/1.0 200 OK\r\n'
    b'Content-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n'
)


@dataclass
class Faults:
    """What is wrong with a camera.

    Attributes:
        drop_after: Frames after which a connection is closed.
        away: Seconds for which it refuses to answer after that.
        stall_after: Frames after which a connection stays silent.
        damage: Of every so many frames the second is cut off.
    """

    drop_after: int | None = None
    away: float = 0.0
    stall_after: int | None = None
    damage: int | None = None


@contextmanager
def camera(frames, fps=50, faults=None, port=0):
    """Serve frames as Motion JPEG again and again, to each client anew.

    Args:
        frames: Images (H, W, 3), uint8.
        fps: Frames per second.
        faults: What goes wrong.
        port: Where it listens; 0 for any.

    Yields:
        The address.
    """
    faults = faults or Faults()
    closed = threading.Event()
    away_until = 0.0

    def serve(client):
        nonlocal away_until
        with suppress(OSError), client:
            client.recv(4096)
            if time.monotonic() < away_until:
                return
            client.sendall(HEAD)
            for number in itertools.count():
                if number == faults.drop_after:
                    away_until = time.monotonic() + faults.away
                    return
                if number == faults.stall_after:
                    closed.wait()
                is_cut = faults.damage and number % faults.damage == 1
                image = frames[number % len(frames)]
                client.sendall(_part(image, 0.5 if is_cut else 1))
                if closed.wait(1 / fps):
                    return

    with _listening(serve, port) as address:
        try:
            yield address
        finally:
            closed.set()


@contextmanager
def stalling_camera(frames):
    """Serve frames as Motion JPEG at once, then nothing more.

    Args:
        frames: Images (H, W, 3), uint8; none of them: not even an answer.

    Yields:
        The address.
    """
    answer = b''.join(map(_part, frames))
    closed = threading.Event()

    def serve(client):
        with suppress(OSError), client:
            if answer:
                client.sendall(HEAD + answer)
            closed.wait()

    with _listening(serve) as address:
        try:
            yield address
        finally:
            closed.set()


@contextmanager
def _listening(serve, port=0):
    """Run a function on each client in a thread of its own."""
    threads = []

    def accept():
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(client,)))
            threads[-1].start()

    with socket.create_server(('127.0.0.1', port)) as server:
        threads.append(threading.Thread(target=accept))
        threads[-1].start()
        try:
            yield f'http://127.0.0.1:{server.getsockname()[1]}/video.mjpg'
        finally:
            server.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()


def _part(frame, share=1.0):
    """A frame as it is on the line, or its first share of bytes."""
    data = cv2.imencode('.jpg', frame)[1].tobytes()
    data = data[: round(share * len(data))]
    size = str(len(data)).encode()
    head = b'--frame\r\nContent-Type: image/jpeg\r\nContent-Length: '
    return head + size + b'\r\n\r\n' + data + b'\r\n'

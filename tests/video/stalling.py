"""A camera on 127.0.0.1 that stops sending, for as long as it is open."""

import socket
import threading
from contextlib import contextmanager

import cv2

HEAD = (
    b'HTTP/1.0 200 OK\r\n'
    b'Content-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n'
)


@contextmanager
def stalling_camera(frames):
    """Serve frames as Motion JPEG, then nothing more.

    Args:
        frames: Images (H, W, 3), uint8; none of them: not even an answer.

    Yields:
        The address.
    """
    answer = b''.join(map(_part, frames))
    clients = []

    def serve():
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            clients.append(client)
            if answer:
                client.sendall(HEAD + answer)

    with socket.create_server(('127.0.0.1', 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f'http://127.0.0.1:{server.getsockname()[1]}/video.mjpg'
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for client in clients:
                client.close()
            thread.join()


def _part(frame):
    data = cv2.imencode('.jpg', frame)[1].tobytes()
    size = str(len(data)).encode()
    head = b'--frame\r\nContent-Type: image/jpeg\r\nContent-Length: '
    return head + size + b'\r\n\r\n' + data + b'\r\n'

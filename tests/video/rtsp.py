"""A camera that speaks RTSP, as those on walls do, on 127.0.0.1.

RFC 2326, with the packets of RTP in the same connection (section 10.12);
FFmpeg encodes them and cuts the pictures into packets.
"""

import re
import socket
import threading
import time
from contextlib import contextmanager, suppress

import av

SDP = (
    'v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\n'
    'm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n'
    'a=fmtp:96 packetization-mode=1\r\na=control:video\r\n'
)


@contextmanager
def rtsp_camera(frames, fps=25, connections=()):
    """Serve frames over and over, to one reader at a time.

    Args:
        frames: Pictures (H, W, 3) of one size.
        fps: Frames in a second.
        connections: Pictures after which the first connections are closed.
    """
    ends = threading.Event()
    with socket.create_server(('127.0.0.1', 0)) as server:
        server.settimeout(0.1)
        limits = iter(connections)

        def serve():
            while not ends.is_set():
                with suppress(OSError):
                    client, _ = server.accept()
                    with client:
                        _answer(client, frames, fps, next(limits, None), ends)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f'rtsp://127.0.0.1:{server.getsockname()[1]}/wall'
        finally:
            ends.set()
            thread.join(5)


def _answer(client, frames, fps, limit, ends):
    """Answer what a reader asks, and play until it leaves."""
    client.settimeout(2)
    asked = client.makefile('r', newline='')
    while True:
        lines = list(iter(asked.readline, '\r\n'))
        if not lines or '' in lines:
            return
        verb, address, _ = lines[0].split()
        number = re.search(r'(?i)cseq: *(\d+)', ''.join(lines))[1]
        head, body = f'RTSP/1.0 200 OK\r\nCSeq: {number}\r\n', ''
        if verb == 'OPTIONS':
            head += 'Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n'
        elif verb == 'DESCRIBE':
            body = SDP
            head += f'Content-Base: {address}/\r\n'
            head += 'Content-Type: application/sdp\r\n'
            head += f'Content-Length: {len(body)}\r\n'
        elif verb == 'SETUP':
            head += 'Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n'
            head += 'Session: 1\r\n'
        client.sendall(f'{head}\r\n{body}'.encode())
        if verb == 'TEARDOWN':
            return
        if verb == 'PLAY':
            _play(client, frames, fps, limit, ends)
            return


def _play(client, frames, fps, limit, ends):
    """Encode frames in time, and pass the packets of RTP on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as packets:
        packets.bind(('127.0.0.1', 0))
        packets.setblocking(False)
        port = packets.getsockname()[1]
        with av.open(f'rtp://127.0.0.1:{port}', 'w', format='rtp') as output:
            height, width = frames[0].shape[:2]
            stream = output.add_stream('libx264', rate=fps)
            stream.width, stream.height = width, height
            stream.pix_fmt = 'yuv420p'
            stream.options = dict(
                preset='ultrafast', tune='zerolatency', g='5'
            )
            number = 0
            while not ends.is_set() and number != limit:
                picture = av.VideoFrame.from_ndarray(
                    frames[number % len(frames)], format='bgr24'
                )
                output.mux(stream.encode(picture))
                time.sleep(1 / fps)
                with suppress(BlockingIOError):
                    while True:
                        data = packets.recv(65536)
                        size = len(data).to_bytes(2, 'big')
                        client.sendall(b'$\0' + size + data)
                number += 1

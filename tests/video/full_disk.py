"""Writes a video until its file may not grow; prints the frames and why.

    python tests/video/full_disk.py VIDEO

A limit on the size of files stands for a small disk.
"""

import resource
import signal
import sys

from mmskip.reading import InputError
from mmskip.video import VideoWriter
from tests.apis.fakes import noise_frames

LIMIT = 200_000

if __name__ == '__main__':
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
    frames = noise_frames(25)
    count = 0
    try:
        with VideoWriter(sys.argv[1], (64, 48), 25) as writer:
            for count in range(1000):
                writer.write(frames[count % 25])
    except InputError as error:
        print(count, error)

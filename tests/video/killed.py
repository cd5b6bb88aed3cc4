"""Kills writers of videos and logs at random moments and looks what is left.

    PYTHONPATH=. python tests/video/killed.py KILLS [FOLDER]

Prints a line per kill, with how much of the video was lost; the exit code is
1 if more than a second was or a line of JSON is not whole.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import av
import torch
from mmengine.structures import BaseDataElement, InstanceData

from mmskip.core import MacCount
from mmskip.video import FrameResult, ResultLog, VideoWriter
from tests.apis.fakes import noise_frames

SUFFIXES = ('.mp4', '.mkv', '.mov', '.avi')
FPS = 25
# Quicker than a camera, so that a short life is a long video.
PAUSE = 0.004


def write_for_good(video: Path, log: Path, pipe: int) -> None:
    """Write frames, and each one's number into a pipe afterwards."""
    frames = noise_frames(FPS)
    instances = InstanceData(
        bboxes=torch.rand(5, 4), scores=torch.ones(5), labels=torch.arange(5)
    )
    prediction = BaseDataElement(pred_instances=instances)
    with (
        VideoWriter(video, (64, 48), FPS) as writer,
        ResultLog(log, 'noise') as lines,
    ):
        index = 0
        while True:
            image = frames[index % FPS]
            writer.write(image, index / FPS)
            lines.write(
                FrameResult(
                    *(index, image, prediction, MacCount(1, 1, 1, 0)),
                    *(None, 0.0, index / FPS),
                )
            )
            os.write(pipe, index.to_bytes(4, 'little'))
            time.sleep(PAUSE)
            index += 1


def kill_one(video: Path, log: Path, life: float) -> SimpleNamespace:
    """Let a process write for some seconds, kill it, and count."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        write_for_good(video, log, writer)
    os.close(writer)
    first = os.read(reader, 4)
    time.sleep(life)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    numbers = first + b''.join(iter(lambda: os.read(reader, 1 << 16), b''))
    os.close(reader)
    with av.open(str(video)) as container:
        found = sum(1 for _ in container.decode(video=0))
    return SimpleNamespace(
        written=len(numbers) // 4,
        found=found,
        lines=[json.loads(line) for line in log.read_text().splitlines()],
    )


def main(kills: int, folder: Path) -> int:
    """Kill so many writers; returns the exit code."""
    failed = False
    for number in range(kills):
        suffix = SUFFIXES[number % len(SUFFIXES)]
        video = folder / f'{number}{suffix}'
        log = folder / f'{number}.jsonl'
        left = kill_one(video, log, random.uniform(0.2, 0.8))
        lost = (left.written - left.found) / FPS
        print(
            f'{suffix}: {left.written} frames written, {lost:.2f} s lost, '
            f'{len(left.lines) - 1} lines'
        )
        # The line of the source; the last frame may not be announced yet.
        failed |= lost > 1 or len(left.lines) - 1 - left.written not in (0, 1)
    return int(failed)


if __name__ == '__main__':
    place = sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp()
    sys.exit(main(int(sys.argv[1]), Path(place)))

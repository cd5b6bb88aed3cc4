"""Reproductions: the order of frames, single images, and signals.

Each function returns whether what it claims holds, and how it came out.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn

import mmskip
from mmskip.apis import open_reader
from mmskip.datasets import VideoOrderSampler
from mmskip.evaluation import ComputeCost

VIDEOS, FRAMES = 2, 6
SEQUENTIAL = dict(type='DefaultSampler', shuffle=False)
SHUFFLED = dict(type='DefaultSampler', shuffle=True)


class Net(BaseModel):
    """Two convolutions that say one number of an image."""

    def __init__(self):
        super().__init__()
        self.convs = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 1, 3))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        for sample, score in zip(
            data_samples, self.convs(torch.stack(inputs)), strict=True
        ):
            sample.set_field(score, 'score')
        return data_samples


class Frames(BaseDataset):
    """Images of two scenes: frames of two videos only if they say so."""

    def __init__(self, told):
        self.told = told
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(VIDEOS * FRAMES, 3, 16, 16, generator=generator)
        scene = torch.randn(VIDEOS, 3, 16, 16, generator=generator)
        scene = scene.repeat_interleave(FRAMES, 0)
        self.images = scene + 0.05 * noise
        super().__init__(pipeline=[self.pack], test_mode=True)

    def load_data_list(self):
        count = VIDEOS * FRAMES
        infos = [dict(img_path=f'val2017/{n}.jpg') for n in range(count)]
        if self.told:
            for n, info in enumerate(infos):
                info.update(video_id=n // FRAMES, frame_id=n % FRAMES)
        return infos

    def pack(self, info):
        sample = BaseDataElement(metainfo=info)
        image = self.images[info['sample_idx']]
        return dict(inputs=image, data_samples=sample)


class Scores(BaseMetric):
    """What a model said of each image."""

    def process(self, data_batch, data_samples):
        self.results += [(s['img_path'], s['score']) for s in data_samples]

    def compute_metrics(self, results):
        self.found = dict(results)
        return {}


def _test(dataset, sampler, model):
    """Scores by image, and MACs per frame, of a test loop."""
    scores = Scores()
    with (
        tempfile.TemporaryDirectory() as folder,
        DefaultScope.overwrite_default_scope('mmengine'),
    ):
        runner = Runner(
            model,
            folder,
            test_dataloader=dict(
                dataset=dataset,
                batch_size=1,
                num_workers=0,
                collate_fn=dict(type='pseudo_collate'),
                sampler=sampler,
            ),
            test_cfg=dict(),
            test_evaluator=Evaluator([scores, ComputeCost()]),
            custom_hooks=[dict(type='mmskip.VideoHook')],
            default_scope='mmengine',
            experiment_name=f'{Path(folder).name}_{time.monotonic_ns()}',
            log_level='ERROR',
        )
        return scores, runner.test()['cost/gmac']


def _converted():
    torch.manual_seed(0)
    model = Net()
    gate = dict(type='OutputNormGate', threshold=0.5, relative=True)
    mmskip.convert(model, mmskip.SkipConversion(gate))
    return model


def loaders_out_of_order():
    """They give the results of the videos, or are refused."""
    model, dataset = _converted(), Frames(told=True)
    expected, gmac = _test(dataset, SEQUENTIAL, model)
    wrong = []
    for name, sampler, rank in (
        ('shuffled', SHUFFLED, (0, 1)),
        ('rank 0 of 2', SEQUENTIAL, (0, 2)),
        ('rank 1 of 2', SEQUENTIAL, (1, 2)),
    ):
        with mock.patch(
            'mmengine.dataset.sampler.get_dist_info', lambda rank=rank: rank
        ):
            try:
                scores, found = _test(dataset, sampler, model)
            except ValueError as error:
                if 'VideoOrderSampler' not in str(error):
                    raise
                continue
        same = all(
            torch.equal(score, expected.found[path])
            for path, score in scores.found.items()
        )
        if not same or found != gmac:
            wrong.append(f'{name}: {found:.3g} GMAC')
    return not wrong, f'{gmac:.3g} GMAC in order; {wrong or "others refused"}'


def unrelated_images_of_a_folder():
    """They are no video: results are those of the dense model."""
    model, dataset = _converted(), Frames(told=False)
    scores, _ = _test(dataset, SEQUENTIAL, model)
    dense = model.convs
    with torch.no_grad():
        error = max(
            float((scores.found[f'val2017/{n}.jpg'] - dense(i)).abs().max())
            for n, i in enumerate(dataset.images)
        )
    return error < 1e-5, f'off by up to {error:.2g}'


def frame_ids_that_are_texts():
    """They are in natural order: 2 before 10."""

    class Texts(BaseDataset):
        def load_data_list(self):
            return [dict(video_id=0, frame_id=str(n)) for n in range(12)]

    order = list(VideoOrderSampler(Texts(pipeline=[])))
    return order == list(range(12)), f'{order}'


def interrupt_while_a_camera_hangs():
    """Ctrl-C ends the wait within a second."""
    image = np.zeros((48, 64, 3), np.uint8)
    data = cv2.imencode('.jpg', image)[1].tobytes()
    part = b'--f\r\nContent-Type: image/jpeg\r\n\r\n' + data + b'\r\n'
    head = (
        b'HTTP/1.0 200 OK\r\n'
        b'Content-Type: multipart/x-mixed-replace; boundary=f\r\n\r\n'
    )
    clients, sent = [], []

    def serve():
        with contextlib.suppress(OSError):
            while True:
                clients.append(server.accept()[0])
                clients[-1].sendall(head + 20 * part)

    def interrupt():
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    with socket.create_server(('127.0.0.1', 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        address = f'http://127.0.0.1:{server.getsockname()[1]}/a.mjpg'
        threading.Timer(0.5, interrupt).start()
        with (
            contextlib.suppress(KeyboardInterrupt),
            open_reader(address, str) as reader,
        ):
            for _ in reader:
                pass
        seconds = time.monotonic() - sent[0]
        for client in clients:
            client.close()
    return seconds < 1, f'{seconds:.2f} s'


PLAN = "methods = dict(a=dict(config='config.py', train=True))\n"
CONFIG = (
    'model = dict()\ntrain_cfg = dict()\n'
    "test_evaluator = [dict(type='mmskip.ComputeCost')]\n"
)
TRAIN = (
    'import os, pathlib, time\n'
    "pathlib.Path('pid').write_text(f'{os.getpid()}.')\n"
    'time.sleep(600)\n'
)
RUN = (
    'import runpy, sys, pathlib\n'
    'from mmskip.apis.errors import run_tool\n'
    'tool = runpy.run_path(sys.argv[1])\n'
    "tool['main'].__globals__['TOOLS'] = pathlib.Path('tools')\n"
    "sys.exit(run_tool(tool['main'], 'compare', ['plan.py', '--out', 'o']))\n"
)


def signals_to_a_comparison():
    """SIGTERM and SIGHUP leave no training behind."""
    compare = Path(mmskip.__file__).parents[1] / 'tools/analysis/compare.py'
    left = []
    for number in (signal.SIGTERM, signal.SIGHUP):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / 'tools').mkdir()
            (folder / 'tools/train.py').write_text(TRAIN)
            (folder / 'plan.py').write_text(PLAN)
            (folder / 'config.py').write_text(CONFIG)
            tool = subprocess.Popen(
                [sys.executable, '-c', RUN, str(compare)],
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            pid = folder / 'pid'
            while not pid.exists() or not pid.read_text().endswith('.'):
                if tool.poll() is not None:
                    return False, f'compare ended with {tool.returncode}'
                time.sleep(0.05)
            tool.send_signal(number)
            tool.wait()
            time.sleep(0.2)
            child = int(pid.read_text()[:-1])
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
                left.append(number.name)
    return not left, f'a training is left after {left}' if left else 'none'


CHECKS = (
    loaders_out_of_order,
    unrelated_images_of_a_folder,
    frame_ids_that_are_texts,
    interrupt_while_a_camera_hangs,
    signals_to_a_comparison,
)

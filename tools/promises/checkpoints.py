"""Files that must not be believed: pickles, checkpoints, boxes of J-HMDB.

Each check returns whether it held, and what was seen. The pointers in the
files are null, which numpy takes for None: nothing here crashes.
"""

import os
import pickle
import tempfile
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

import mmskip  # noqa: F401  (mends mmengine's loaders)
from mmskip.apis import init_model
from mmskip.datasets.jhmdb_release import read_ground_truth


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> tuple:
        return self.reduced


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, *args: Any) -> None:
        """Log nothing."""


@MODELS.register_module()
class TwoLayers(BaseModel):
    """A model to load weights into."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.second = nn.Conv2d(4, 2, 1)

    def forward(self, inputs: Any, data_samples: Any = None) -> Any:
        """Never called."""


def is_refused(read: Callable[[], Any]) -> bool:
    """Whether a file is refused as a whole."""
    try:
        read()
    except (ValueError, pickle.UnpicklingError, RuntimeError):
        return True
    except Exception as error:
        return type(error).__name__ == 'UserError'
    return False


def pointers() -> Call:
    """An array of one object, whose pointer is in the file."""
    return Call(np.ndarray, (1,), Call(np.dtype, 'O'), bytes(8))


def bytes_of_a_checkpoint_become_no_pointers() -> tuple[bool, str]:
    """By ``ndarray((1,), 'O', bytes)``, in both formats of torch."""
    with tempfile.TemporaryDirectory() as folder:
        path = f'{folder}/a.pth'
        read = []
        for zipped in (True, False):
            torch.save(
                {'a': pointers()}, path, _use_new_zipfile_serialization=zipped
            )
            load = partial(CheckpointLoader.load_checkpoint, path)
            if not is_refused(load):
                read.append('zip' if zipped else 'legacy')
    return not read, f'read as objects: {read}'


def bytes_of_boxes_become_no_pointers() -> tuple[bool, str]:
    """In JHMDB-GT.pkl."""
    keys = 'labels gttubes nframes train_videos test_videos resolution'
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'JHMDB-GT.pkl')
        truth = {key: {} for key in keys.split()} | {'labels': pointers()}
        path.write_bytes(pickle.dumps(truth))
        held = is_refused(lambda: read_ground_truth(path))
    return held, f'refused: {held}'


def proposals_run_nothing() -> tuple[bool, str]:
    """By ``LoadActorBoxes(proposal_file=)``."""
    from mmskip.datasets import LoadActorBoxes

    with tempfile.TemporaryDirectory() as folder:
        path, trace = Path(folder, 'boxes.pkl'), f'{folder}/ran'
        path.write_bytes(pickle.dumps({'a': Call(os.mkdir, trace)}))
        held = is_refused(lambda: LoadActorBoxes(str(path)))
        ran = Path(trace).exists()
    return held and not ran, f'refused: {held}, ran: {ran}'


def downloads_run_nothing() -> tuple[bool, str]:
    """A checkpoint from the net, by its address."""
    with tempfile.TemporaryDirectory() as folder:
        trace = f'{folder}/ran'
        torch.save({'a': Call(os.mkdir, trace)}, f'{folder}/a.pth')
        before = torch.hub.get_dir()
        torch.hub.set_dir(f'{folder}/hub')
        handler = partial(Quiet, directory=folder)
        with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
            thread = Thread(target=server.serve_forever)
            thread.start()
            address = f'http://127.0.0.1:{server.server_port}/a.pth'
            load = partial(CheckpointLoader.load_checkpoint, address)
            held = is_refused(load)
            server.shutdown()
            thread.join()
        torch.hub.set_dir(before)
        ran = Path(trace).exists()
    return held and not ran, f'refused: {held}, ran: {ran}'


def unfit_weights_are_refused() -> tuple[bool, str]:
    """Of another shape, half of them missing, or NaN."""
    config = Config(
        dict(default_scope='mmengine', model=dict(type='TwoLayers'))
    )
    weights = TwoLayers().state_dict()
    key = 'first.weight'
    unfit = {
        'half': dict(list(weights.items())[:2]),
        'shape': weights | {key: weights[key].repeat(2, 1, 1, 1)},
        'nan': weights | {key: weights[key] * torch.nan},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = f'{folder}/a.pth'
        torch.save(weights, path)
        init_model(config, path)
        taken = []
        for name, content in unfit.items():
            torch.save(content, path)
            if not is_refused(lambda: init_model(config, path)):
                taken.append(name)
    return not taken, f'taken: {taken}'


def ground_truth(row: tuple, **keys: Any) -> dict:
    """Two videos, one of which has a box of our choice."""
    tube = np.array([row], np.float32)
    videos = ('run/a', 'run/b')
    return dict(
        labels=['run'],
        gttubes={video: {0: [tube]} for video in videos},
        nframes=dict.fromkeys(videos, 9),
        resolution=dict.fromkeys(videos, (20, 20)),
        train_videos=[['run/a']] * 3,
        test_videos=[['run/b']] * 3,
    ) | {key: [value] * 3 for key, value in keys.items()}


def impossible_boxes_are_refused() -> tuple[bool, str]:
    """NaN, inverted, of no frame; a video twice, or in both lists."""
    box = 1, 2, 3, 8, 9
    cases = {
        'NaN': ground_truth((1, 2, np.nan, 8, 9)),
        'inverted': ground_truth((1, 8, 9, 2, 3)),
        'frame 0': ground_truth((0, *box[1:])),
        'frame -5': ground_truth((-5, *box[1:])),
        'frame 1.9': ground_truth((1.9, *box[1:])),
        'twice': ground_truth(box, train_videos=['run/a', 'run/a']),
        'in both': ground_truth(box, test_videos=['run/a']),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'JHMDB-GT.pkl')
        path.write_bytes(pickle.dumps(ground_truth(box)))
        read_ground_truth(path)
        taken = []
        for name, truth in cases.items():
            path.write_bytes(pickle.dumps(truth))
            if not is_refused(lambda: read_ground_truth(path)):
                taken.append(name)
    return not taken, f'taken: {taken}'


CHECKS = (
    bytes_of_a_checkpoint_become_no_pointers,
    bytes_of_boxes_become_no_pointers,
    proposals_run_nothing,
    downloads_run_nothing,
    unfit_weights_are_refused,
    impossible_boxes_are_refused,
)

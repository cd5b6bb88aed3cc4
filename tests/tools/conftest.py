"""A toy data set, a tiny converted detector and its checkpoint."""

import importlib.util
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger

from mmskip.apis import init_model, load_config
from mmskip.apis.errors import run_tool
from mmskip.toy import Sequences, make_toy_ua_detrac
from tests.tools.learned import DIE_AT, train_arguments

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / 'tools'

CONFIG = """
_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    'mmdet::_base_/default_runtime.py',
]
custom_imports = dict(imports=['mmskip'], allow_failed_imports=False)
model = dict(
    type='mmskip.ConvertedModel',
    arch='RetinaNet',
    backbone=dict(depth=18, base_channels=8, init_cfg=None),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=8),
    bbox_head=dict(
        num_classes=4, in_channels=8, feat_channels=8, stacked_convs=1
    ),
    test_cfg=dict(score_thr=0.0, max_per_img=20),
    conversions=[
        dict(
            type='mmskip.SkipConversion',
            gate=dict(type='mmskip.OutputNormGate', threshold=0.05),
        )
    ],
)
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(128, 96), keep_ratio=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                   'scale_factor', 'video_id', 'instances'),
    ),
]
dataset = dict(
    type='mmskip.UADETRACDataset', data_root={root!r}, pipeline=pipeline
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(split='train', **dataset),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='mmskip.VideoOrderSampler'),
    dataset=dict(split='test', test_mode=True, **dataset),
)
test_evaluator = [
    dict(type='CocoMetric', metric='bbox'),
    dict(type='mmskip.ComputeCost'),
]
custom_hooks = [dict(type='mmskip.VideoHook')]
test_cfg = dict(type='TestLoop')
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=1e-4))
default_hooks = dict(checkpoint=dict(interval=1, by_epoch=False))
"""


@dataclass
class Setup:
    """What a command line names."""

    folder: Path
    config: Path
    checkpoint: Path


@pytest.fixture(scope='session')
def setup(tmp_path_factory):
    pytest.importorskip('mmdet')
    folder = tmp_path_factory.mktemp('tools')
    root = make_toy_ua_detrac(
        folder / 'data',
        train=Sequences(1, 4),
        test=Sequences(2, 4),
        size=(128, 96),
        density=2.0,
    )
    config = folder / 'tiny.py'
    config.write_text(CONFIG.replace('{root!r}', repr(str(root))))
    torch.manual_seed(0)
    model = init_model(load_config(config))
    checkpoint = folder / 'tiny.pth'
    meta = dict(dataset_meta=model.dataset_meta)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), checkpoint)
    return Setup(folder, config, checkpoint)


def without_half(weights):
    kept = list(weights)[::2]
    return {key: weights[key] for key in kept}


def of_another_shape(weights):
    key = next(key for key, value in weights.items() if value.ndim == 4)
    return weights | {key: weights[key].repeat(2, 1, 1, 1)}


def not_finite(weights):
    key = next(key for key, value in weights.items() if value.ndim == 4)
    return weights | {key: weights[key] * torch.nan}


@pytest.fixture(params=[without_half, of_another_shape, not_finite])
def unfit(request, setup, tmp_path):
    """A checkpoint that is not quite the model's; what to say of it."""
    content = torch.load(setup.checkpoint)
    content['state_dict'] = request.param(content['state_dict'])
    torch.save(content, tmp_path / 'unfit.pth')
    text = 'not finite' if request.param is not_finite else 'does not fit'
    return tmp_path / 'unfit.pth', text


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """Tools write below the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('MMSKIP_DEBUG', raising=False)


@pytest.fixture(autouse=True)
def fresh_loggers():
    """Forget mmengine's loggers: they write to streams of earlier tests."""
    MMLogger._instance_dict.clear()


@pytest.fixture(scope='session')
def load_tool():
    """Import a script of ``tools/`` as a module."""

    def load(name):
        path = TOOLS / f'{name}.py'
        spec = importlib.util.spec_from_file_location(f'tool_{name}', path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def fork():
    """Run a tool in a copy of this process, which knows all imports."""
    if 'fork' not in multiprocessing.get_all_start_methods():
        pytest.skip('new processes would import everything again')
    if torch.cuda.is_available():
        pytest.skip('autograd has threads for a GPU, which a fork would lack')
    context = multiprocessing.get_context('fork')
    begun = []

    def run(main, name, argv):
        def work():
            sys.exit(run_tool(main, name, [str(part) for part in argv]))

        begun.append(context.Process(target=work))
        begun[-1].start()
        return begun[-1]

    yield run
    for process in begun:
        process.kill()
        process.join()


@pytest.fixture
def one_thread(monkeypatch):
    """Sums of several threads are rounded in another order than of one."""
    threads = torch.get_num_threads()
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def train_until_killed(load_tool, fork, monkeypatch):
    """Train in another process, which kills itself in some iteration."""

    def run(iteration, config, work_dir, options):
        monkeypatch.setenv(DIE_AT, str(iteration))
        argv = train_arguments(config, work_dir, options)
        process = fork(load_tool('train').main, 'train', argv)
        process.join(120)
        monkeypatch.delenv(DIE_AT)
        assert process.exitcode == -signal.SIGKILL

    return run


@pytest.fixture
def wait_for():
    """Wait until something holds, half a minute at most."""

    def wait(condition):
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    return wait


@pytest.fixture
def run_command():
    """Run a program with this interpreter and this checkout."""

    def run(*command, **variables):
        paths = [str(ROOT), os.environ.get('PYTHONPATH')]
        environment = {
            **os.environ,
            'PYTHONPATH': os.pathsep.join(filter(None, paths)),
            'PYTHON': sys.executable,
            **variables,
        }
        return subprocess.run(
            [str(part) for part in command],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


@pytest.fixture
def alone_in_a_group(monkeypatch):
    """What torchrun tells the only process of a group."""
    for name, value in dict(
        LOCAL_RANK='0', RANK='0', WORLD_SIZE='1',
        MASTER_ADDR='127.0.0.1', MASTER_PORT='0',
    ).items():  # fmt: skip
        monkeypatch.setenv(name, value)


@pytest.fixture
def gloo_threads():
    """Count the threads in which collectives run."""
    tasks = Path('/proc/self/task')
    if not tasks.exists():
        pytest.skip('threads have no names here')
    return lambda: sum(
        'gloo_runloop' in name.read_text() for name in tasks.glob('*/comm')
    )

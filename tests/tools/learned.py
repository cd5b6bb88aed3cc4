"""The tiny detector with learned gates, trained on clips."""

import os
import signal
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.registry import HOOKS, TRANSFORMS

CONFIG = """
_base_ = '{base}'
custom_imports = dict(
    imports=['mmskip', 'tests.tools.learned'], allow_failed_imports=False
)
model = dict(
    conversions=[
        dict(
            type='mmskip.SkipConversion',
            gate=dict(type='mmskip.GumbelGate', bias=1.0),
            exclude='bbox_head',
        )
    ],
    efficiency_loss=dict(type='mmskip.GateCostLoss', beta=0.1),
)
frames = dict(
    type='mmskip.UADETRACDataset',
    data_root='{data}',
    split='train',
    pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='Resize', scale=(64, 48), keep_ratio=True),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PhotoMetricDistortion'),
        dict(type='PackDetInputs'),
    ],
)
train_dataloader = dict(
    batch_size=1,
    sampler=dict(_delete_=True, type='mmskip.ClipSampler'),
    collate_fn=dict(type='mmskip.clip_collate'),
    dataset=dict(
        _delete_=True, type='mmskip.ClipDataset', num_frames=2, dataset=frames
    ),
)
train_cfg = dict(_delete_=True, {loop})
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=8)
]
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=1e-2, momentum=0.9),
    clip_grad=dict(max_norm=1),
)
default_hooks = dict(checkpoint=dict({checkpoint}))
custom_hooks = [
    dict(type='mmskip.VideoHook', num_frames=2),
    dict(type='mmskip.IterSeedHook'),
    dict(type='DieOfTests'),
]
"""
EPOCHS = dict(
    loop="type='EpochBasedTrainLoop', max_epochs=3",
    checkpoint='interval=1, by_epoch=True',
)
ITERATIONS = dict(
    loop="type='IterBasedTrainLoop', max_iters=6",
    checkpoint='interval=2, by_epoch=False',
)
DIE_AT = 'DIE_AT_ITERATION'


@HOOKS.register_module(name='DieOfTests', force=True)
class Die(Hook):
    """Kills the process in an iteration that the environment names."""

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ):
        if os.environ.get(DIE_AT) == str(runner.iter):
            os.kill(os.getpid(), signal.SIGKILL)


@TRANSFORMS.register_module(name='SpoilOfTests', force=True)
class Spoil:
    """Makes a float image with one pixel that is no number.

    Args:
        **options: Of the transform that it takes the place of.
    """

    def __init__(self, **options):
        pass

    def __call__(self, results):
        results['img'] = results['img'].astype('float32')
        results['img'][1, 2, 0] = float('nan')
        return results


def write_config(setup, schedule=None, path='learned.py'):
    """Write the config; the toy data has one video of four frames."""
    names = dict(
        schedule or EPOCHS, base=setup.config, data=setup.folder / 'data'
    )
    text = CONFIG
    for name, value in names.items():
        text = text.replace(f'{{{name}}}', str(value))
    Path(path).write_text(text)
    return path


def train_arguments(config, work_dir, options, *more):
    """Arguments of the tool that trains."""
    return [
        config, '--work-dir', str(work_dir), '--seed', '3', '--no-validate',
        *more, '--cfg-options', *options,
    ]  # fmt: skip

"""A stock detector, converted, learns from clips in the stock loop."""

import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

import mmskip
from mmskip.skip_conv import SkipConvMixin
from mmskip.toy import Sequences, make_toy_ua_detrac
from tests.models.retinanet import config

pytest.importorskip('mmdet')


@pytest.fixture
def train_dataloader(tmp_path):
    root = make_toy_ua_detrac(
        tmp_path / 'toy',
        train=Sequences(2, 4),
        test=Sequences(0, 4),
        size=(96, 64),
    )
    frames = dict(
        type='mmskip.UADETRACDataset',
        data_root=str(root),
        metainfo=dict(classes=('car', 'van')),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(
                type='RandomChoiceResize',
                scales=[(96, 64), (72, 48)],
                keep_ratio=True,
            ),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ],
    )
    return dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type='mmskip.ClipSampler', shuffle=True),
        collate_fn=dict(type='mmskip.clip_collate'),
        dataset=dict(
            type='mmskip.ClipDataset',
            num_frames=2,
            windows=dict(type='RandomStart'),
            dataset=frames,
        ),
    )


def test_one_epoch_of_clips_in_the_stock_runner(train_dataloader, tmp_path):
    with DefaultScope.overwrite_default_scope('mmdet'):
        runner = Runner(
            model=dict(
                config(),
                type='mmskip.ConvertedModel',
                arch='RetinaNet',
                conversions=[
                    dict(
                        type='mmskip.SkipConversion',
                        gate=dict(type='mmskip.InputNormGate', threshold=0.1),
                    )
                ],
            ),
            work_dir=str(tmp_path / 'work'),
            train_dataloader=train_dataloader,
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
            custom_hooks=[dict(type='mmskip.VideoHook', num_frames=2)],
            default_scope='mmdet',
            experiment_name=tmp_path.name,
            randomness=dict(seed=0),
            log_level='ERROR',
        )
        model = runner.model
        before = {k: p.clone() for k, p in model.named_parameters()}
        seen = watch(model)
        with mmskip.count_macs(model) as macs:
            runner.train()
    (samples,) = seen
    videos = [sample.img_path.split('/')[-2] for sample in samples]
    assert len(samples) == 4
    assert videos[0] == videos[1] != videos[2] == videos[3]
    for first, second in (samples[:2], samples[2:]):
        assert first.flip == second.flip
        assert first.img_shape == second.img_shape
        assert second.img_id - first.img_id == 1
    changed = [
        k for k, p in model.named_parameters() if (p != before[k]).any()
    ]
    assert {'bbox_head.retina_cls.weight'} <= {*changed}
    assert all(p.isfinite().all() for p in model.parameters())
    converted = [m for m in model.modules() if isinstance(m, SkipConvMixin)]
    assert converted
    total = macs.total()
    assert total.executed < total.dense


def watch(model):
    """Collect the samples of every training step."""
    seen = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs['data_samples']),
        with_kwargs=True,
    )
    return seen


def test_a_batch_of_clips_is_a_stock_batch(train_dataloader):
    with DefaultScope.overwrite_default_scope('mmdet'):
        loader = Runner.build_dataloader(train_dataloader, seed=0)
        batch = next(iter(loader))
    assert [image.dtype for image in batch['inputs']] == [torch.uint8] * 4
    assert sorted(batch) == ['data_samples', 'inputs']

"""Data, splits and costs in the configs for sub-JHMDB and HMDB51."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.registry import TRANSFORMS as ENGINE_TRANSFORMS

import mmskip
from mmskip.apis import load_config
from mmskip.experiments import read_plan, split_options
from mmskip.registry import DATASETS
from tests.hosts.host import default_scope, without_downloads

ROOT = Path(__file__).parents[2]
SKIP = 'pose/skip-conv-gumbel_td-hm_hrnet-w32_8xb2x8-100e_jhmdb-sub1-256x256'
DENSE = 'pose/td-hm_hrnet-w32_8xb16-100e_jhmdb-sub1-256x256'
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def load(name):
    return Config.fromfile(ROOT / 'configs/skip_conv' / f'{name}.py')


def innermost(loader):
    dataset = loader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    return dataset


@pytest.mark.parametrize('split', [1, 2, 3])
@pytest.mark.parametrize('name', [DENSE, SKIP])
def test_three_splits_of_sub_jhmdb(name, split):
    pytest.importorskip('mmpose')
    cfg = load(name)
    cfg.merge_from_dict(split_options(cfg, split))
    with default_scope('mmpose'):
        for loader, subset in zip(
            LOADERS, ('train', 'test', 'test'), strict=True
        ):
            dataset = innermost(cfg[loader])
            assert (dataset.split, dataset.subset) == (split, subset)
            assert DATASETS.get(dataset.type)
            for step in dataset.pipeline:
                ENGINE_TRANSFORMS.build(dict(step))
    metric = cfg.test_evaluator[0]
    assert (metric.thr, metric.norm_item) == (0.2, ['bbox', 'torso'])
    # A flip test would cost two frames.
    assert cfg.model.test_cfg.flip_test is False


def test_clips_of_8_frames_begin_with_a_reference_frame():
    pytest.importorskip('mmpose')
    hook = load(SKIP).custom_hooks[0]
    assert (hook.num_frames, hook.reset_interval) == (8, 8)


PLAN = ROOT / 'tools/analysis/comparisons/tsn_r101_hmdb51.py'


@pytest.mark.parametrize(
    'trial', read_plan(PLAN).trials, ids=lambda trial: trial.name
)
def test_videos_of_hmdb51_are_clips(trial):
    pytest.importorskip('mmaction')
    frames = int(trial.setting.removesuffix(' frames'))
    cfg = load_config(trial.config, dict(trial.options))
    with default_scope('mmaction'):
        for loader in LOADERS:
            steps = cfg[loader].dataset.pipeline
            assert steps[1].num_clips == frames
            assert steps[1].get('test_mode', False) == (
                loader != 'train_dataloader'
            )
            for step in steps:
                ENGINE_TRANSFORMS.build(dict(step))
    hook = cfg.custom_hooks[0]
    assert (hook.num_frames, hook.inference) == (frames, 'clip')
    assert cfg.train_dataloader.batch_size == {25: 4, 6: 16}[frames]


@pytest.mark.parametrize(('frames', 'paper'), [(25, 194.98), (6, 46.80)])
def test_tsn_costs_what_the_supplement_says(frames, paper):
    pytest.importorskip('mmaction')
    cfg = load(
        'recognition/tsn_imagenet-pretrained-r101_8xb4-1x1x25-50e_hmdb51-rgb'
    )
    with default_scope('mmaction'), torch.device('meta'):
        model = MODELS.build(without_downloads(cfg.model)).eval()
        clip = torch.empty(1, frames, 3, 224, 224)
        with torch.no_grad(), mmskip.count_macs(model) as macs:
            model(clip, None, mode='tensor', stage='head')
    assert not macs.uncounted()
    total = macs.total().executed
    # Table 1 counts 7.80 GMAC a frame, ours has one classifier a frame.
    assert round(total / frames / 1e9, 2) == 7.80
    assert total / 1e9 == pytest.approx(paper, rel=1e-3)

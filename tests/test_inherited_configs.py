"""A config in an empty folder that inherits from ours trains and tests."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmskip import toy

VIDEOS = dict(train_videos=1, test_videos=1)
#: What makes the data, where configs look for it, and how little is enough.
DATA = {
    'mmdet': (
        toy.make_toy_ua_detrac,
        'data/toy_ua_detrac',
        dict(
            train=toy.Sequences(1, 4),
            test=toy.Sequences(1, 4),
            size=(128, 128),
            density=2.0,
        ),
    ),
    'mmpose': (
        toy.make_toy_sub_jhmdb,
        'data/toy_sub_jhmdb',
        dict(VIDEOS, frames=(8, 8), size=(64, 64)),
    ),
    'kinetics': (
        toy.make_toy_kinetics,
        'data/toy_kinetics',
        dict(train_videos=4, test_videos=2, frames=16, size=(64, 64)),
    ),
    'activitynet': (
        toy.make_toy_activitynet,
        'data/toy_activitynet',
        dict(train_videos=4, test_videos=2, frames=16, size=(64, 64)),
    ),
    'jhmdb': (
        toy.make_toy_jhmdb,
        'data/toy_jhmdb',
        dict(VIDEOS, frames=(12, 12), size=(64, 64)),
    ),
}
DETECTION = 'toy/{}_toy-ua-detrac'
POSE = 'toy/{}_td-hm_hrnet-w12_toy-sub-jhmdb-96x96'
LOCALIZATION = 'toy/{}_1xb8-8x1-12e_toy-jhmdb'
TRAINED = [
    ('mmdet', DETECTION.format('skip-conv-gumbel_efficientdet_d0')),
    ('mmpose', POSE.format('skip-conv-gumbel')),
    ('kinetics', 'toy/va-red2_r2plus1d_r18-w16_8x2x1-10e_toy-kinetics'),
    ('activitynet', 'toy/sof_r18-w16_16f-16e_toy-activitynet'),
    ('jhmdb', LOCALIZATION.format('va-red2_yowo_r2plus1d_r18-w12')),
]
TESTED = [
    ('mmdet', DETECTION.format('keyframe_retinanet_r18-w32')),
    ('mmdet', DETECTION.format('feature-flow_retinanet_r18-w32')),
]
CHILD = """
_base_ = 'mmskip::{base}.py'
train_cfg = dict(max_epochs=1)
"""


@pytest.fixture(scope='session')
def make_data(tmp_path_factory):
    """Write data once, and link to it from the working directory."""
    made = {}

    def link(name):
        make, place, options = DATA[name]
        if name not in made:
            made[name] = make(
                tmp_path_factory.mktemp(name) / 'data', **options
            )
        Path(place).parent.mkdir(exist_ok=True)
        Path(place).symlink_to(made[name])

    return link


@pytest.fixture
def build(make_data, tmp_path, monkeypatch):
    """A runner of a config that inherits from one of ours."""
    pytest.importorskip('mmdet')
    pytest.importorskip('mmpose')
    pytest.importorskip('mmaction')
    monkeypatch.chdir(tmp_path)

    def make(data, base):
        make_data(data)
        child = tmp_path / 'child.py'
        child.write_text(CHILD.format(base=base))
        cfg = Config.fromfile(child)
        cfg.work_dir = str(tmp_path / 'work_dir')
        cfg.load_from = None
        cfg.experiment_name = base.replace('/', '_')
        for stage in ('train', 'val', 'test'):
            loader = cfg[f'{stage}_dataloader']
            loader.update(num_workers=0, persistent_workers=False)
            loader.batch_size = min(loader.batch_size, 2)
        return Runner.from_cfg(cfg)

    yield make
    DefaultScope._instance_dict.clear()


@pytest.fixture
def one_iteration(monkeypatch):
    """An epoch of a single batch."""
    run = EpochBasedTrainLoop.run_iter

    def run_first(loop, idx, data_batch):
        if idx == 0:
            run(loop, idx, data_batch)

    monkeypatch.setattr(EpochBasedTrainLoop, 'run_iter', run_first)


@pytest.mark.usefixtures('one_iteration')
@pytest.mark.parametrize(('data', 'base'), TRAINED)
def test_it_trains_and_is_evaluated(build, data, base):
    runner = build(data, base)

    runner.train()

    assert runner.iter == 1
    assert runner.message_hub.get_scalar('train/loss')


@pytest.mark.parametrize(('data', 'base'), TESTED)
def test_it_is_tested(build, data, base):
    assert build(data, base).test()

"""The fragment of the toy Kinetics, and what it feeds to metrics."""

import json
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner

pytest.importorskip('mmaction')

from mmskip.toy import make_toy_kinetics

CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return make_toy_kinetics(
        tmp_path_factory.mktemp('t') / 'toy', train_videos=2, test_videos=3
    )


def load(name, root):
    """A config with the data of a test."""
    cfg = Config.fromfile(CONFIGS / name)
    for part in ('train', 'val', 'test'):
        dataset = cfg[f'{part}_dataloader'].dataset
        dataset.data_root = str(root)
        dataset.metainfo.classes = str(root / 'classes.txt')
    for part in ('val', 'test'):
        for metric in cfg[f'{part}_evaluator']:
            metric.groups = str(root / 'groups.json')
    return cfg


@pytest.mark.parametrize(
    ('part', 'views', 'videos'),
    [('train', 1, 2), ('val', 1, 3), ('test', 6, 3)],
)
def test_clips_are_8_frames_of_64_pixels(root, part, views, videos):
    cfg = load('_base_/datasets/toy_kinetics.py', root)
    with DefaultScope.overwrite_default_scope('mmaction'):
        dataset = DATASETS.build(cfg[f'{part}_dataloader'].dataset)
    assert len(dataset) == videos
    found = dataset[0]
    assert found['inputs'].shape == (views, 3, 8, 64, 64)
    sample = found['data_samples']
    classes = (root / 'classes.txt').read_text().splitlines()
    label = classes[int(sample.gt_label)]
    assert Path(sample.filename).parent.name == label
    steps = sample.frame_inds.reshape(-1, 8)
    assert (steps[:, 1:] - steps[:, :-1] == 2).all()


@pytest.mark.parametrize('method', ['', 'va-red2_'])
def test_accuracy_and_cost_of_one_clip_and_of_six_views(
    root, tmp_path, method
):
    name = f'{method}r2plus1d_r18-w16_8x2x1-10e_toy-kinetics.py'
    cfg = load(f'toy/{name}', root)
    for key in list(cfg):
        if key.startswith(('train', 'val')):
            cfg.pop(key)
    cfg.optim_wrapper = cfg.param_scheduler = None
    cfg.test_dataloader.batch_size = 2
    for metric, file in zip(cfg.test_evaluator, ('acc', 'cost'), strict=True):
        metric.out_file = str(tmp_path / f'{file}.json')
    cfg.work_dir = str(tmp_path / 'work')
    cfg.experiment_name = tmp_path.name
    cfg.log_level = 'ERROR'
    found = Runner.from_cfg(cfg).test()
    assert 0 <= found['acc/clip-1'] <= found['acc/video-5'] <= 100
    videos = json.loads((tmp_path / 'acc.json').read_text())['videos']
    groups = json.loads((root / 'groups.json').read_text())
    assert [video['views'] for video in videos] == [6, 6, 6]
    for video in videos:
        assert video['group'] == groups[Path(video['video']).stem]
        assert found[f'cost/gmac_{video["group"]}'] > 0
    # The plain model takes 0.216 GMAC.
    assert found['cost/gmac_per_clip'] == pytest.approx(0.216, rel=0.05)
    assert found['cost/clips'] == 18
    assert found['cost/clips_per_second'] > 0

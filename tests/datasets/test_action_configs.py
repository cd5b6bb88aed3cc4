"""The fragments of action data sets."""

from pathlib import Path

import pytest
from mmengine.config import Config

pytest.importorskip('mmaction')

from mmengine.registry import TRANSFORMS as ENGINE_TRANSFORMS
from mmengine.registry import DefaultScope

from mmskip.registry import DATASETS, HOOKS, METRICS

CONFIGS = Path(__file__).parents[2] / 'configs/_base_/datasets'
# Side of the input, number of classes, several labels; None: as on disk.
FRAGMENTS = dict(
    activitynet=(168, 200, True),
    activitynet_rawframes=(168, 200, True),
    mini_kinetics=(168, 200, False),
    thumos14=(224, 101, True),
    toy_activitynet=(None, 8, False),
)


@pytest.fixture(params=FRAGMENTS)
def name(request):
    return request.param


@pytest.fixture
def cfg(name):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield cfg


@pytest.mark.parametrize('part', ['train', 'val', 'test'])
def test_16_frames_of_the_size_and_the_labels(cfg, name, part):
    side, num_classes, multi = FRAGMENTS[name]
    dataset = cfg[f'{part}_dataloader'].dataset
    assert dataset.num_classes == num_classes
    assert dataset.multi_class == multi
    steps = dataset.pipeline
    (sample,) = [step for step in steps if step.type == 'SampleFrames']
    assert (sample.clip_len, sample.num_clips) == (1, 16)
    assert sample.get('test_mode', False) == (part != 'train')
    sizes = [s.scale for s in steps if s.type == 'Resize']
    assert (tuple(sizes[-1]) if sizes else None) == (side and (side, side))


@pytest.mark.parametrize('part', ['train', 'test'])
def test_what_is_named_exists(cfg, part):
    dataset = cfg[f'{part}_dataloader'].dataset
    assert DATASETS.get(dataset.type)
    for step in dataset.pipeline:
        ENGINE_TRANSFORMS.build(dict(step))
    for metric in cfg.test_evaluator:
        assert METRICS.get(metric.type)
    for hook in cfg.custom_hooks:
        assert HOOKS.get(hook.type)


def test_folders_are_those_of_the_data_set(cfg, name):
    folder = name.split('_raw')[0]
    for part in ('train', 'val', 'test'):
        dataset = cfg[f'{part}_dataloader'].dataset
        assert dataset.data_root == f'data/{folder}/'
        kind = 'rawframes' if 'raw' in name else 'videos'
        assert dataset.ann_file.endswith(f'_list_{kind}.txt')
        assert ('img' in dataset.data_prefix) == ('raw' in name)

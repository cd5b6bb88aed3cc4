"""Costs of clips of whole models: exact, and those of each clip alone."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

import mmskip
from mmskip.va_red2 import DynamicConvMixin, force_routing

pytest.importorskip('mmdet')
pytest.importorskip('mmaction')

from mmskip.engine import ClipCostHook
from mmskip.evaluation import ClipCost
from tests.models.yowo import detectors

CONFIGS = Path(__file__).parents[2] / 'configs'
FRAMES = 4


@pytest.fixture(autouse=True)
def _mmaction_scope():
    from mmaction.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield


def build_tsn():
    cfg = Config.fromfile(CONFIGS / '_base_/models/tsn_r18-w16.py').model
    return MODELS.build(cfg)


def build_tsm():
    """It classifies each frame before it takes their mean."""
    cfg = Config.fromfile(CONFIGS / '_base_/models/tsn_r18-w16.py').model
    cfg.cls_head.update(type='TSMHead', num_segments=FRAMES)
    return MODELS.build(cfg)


def videos(count):
    """Of every shade, in single frames."""
    from mmaction.structures import ActionDataSample

    shades = torch.linspace(10, 255, count * FRAMES).view(count, FRAMES)
    noise = torch.rand(count, FRAMES, 3, 32, 32)
    frames = (noise * shades[:, :, None, None, None]).byte()
    samples = [ActionDataSample() for _ in range(count)]
    for index, sample in enumerate(samples):
        sample.set_metainfo(dict(filename=f'{index}.mp4'))
    return dict(inputs=list(frames), data_samples=samples)


def clips(count):
    batch = detectors.data(count)
    for index, clip in enumerate(batch['inputs']):
        clip //= 1 + 4 * index
        batch['data_samples'][index].set_metainfo(
            dict(filename=f'{index}.mp4')
        )
    return batch


CASES = dict(
    tsn=(build_tsn, videos),
    tsm=(build_tsm, videos),
    yowo=(detectors.build, clips),
)


@pytest.fixture(params=CASES)
def case(request):
    """A dynamic model whose samples choose for themselves, and its data."""
    build, data = CASES[request.param]
    model = build().eval()
    mmskip.convert(model, mmskip.DynamicConversion(), include=['backbone'])
    for layer in model.modules():
        if isinstance(layer, DynamicConvMixin):
            for weight in layer.gate.parameters():
                nn.init.normal_(weight, std=2.0)
    return model, data(3)


def costs_of(model, batch):
    """Samples of a batch as the test loop hands them to the metrics."""
    hook, runner = ClipCostHook(), SimpleNamespace(model=model)
    batch = {key: list(value) for key, value in batch.items()}
    hook.before_test_iter(runner, 0)
    with torch.no_grad():
        samples = model.test_step(batch)
    hook.after_test_iter(runner, 0)
    return [sample.to_dict() for sample in samples]


def count(model, batch, index):
    """The ledger of one sample of a batch alone."""
    one = {key: [value[index]] for key, value in batch.items()}
    with torch.no_grad(), mmskip.count_macs(model) as macs:
        model.test_step(one)
    assert not macs.uncounted()
    return macs.total()


def test_each_clip_costs_what_it_costs_alone(case):
    model, batch = case
    samples = costs_of(model, batch)
    totals = [count(model, batch, index) for index in range(3)]
    assert [s['clip_macs'].tolist() for s in samples] == [
        [total.spent] for total in totals
    ]
    assert [s['clip_dense_macs'].tolist() for s in samples] == [
        [total.dense] for total in totals
    ]
    assert len({total.spent for total in totals}) > 1


def test_forced_routing_cost_all_clips_the_same(case):
    model, batch = case
    with force_routing(model):
        full = {int(s['clip_macs']) for s in costs_of(model, batch)}
    with force_routing(model, 1, 1):
        half = {int(s['clip_macs']) for s in costs_of(model, batch)}
    assert len(full) == len(half) == 1
    assert half.pop() < full.pop()


def test_the_metric_averages_them(case):
    model, batch = case
    metric = ClipCost()
    metric.process({}, costs_of(model, batch))
    figures = metric.evaluate(3)
    spent = [count(model, batch, index).spent / 1e9 for index in range(3)]
    assert figures['cost/clips'] == 3
    assert figures['cost/gmac_per_clip'] == pytest.approx(sum(spent) / 3)
    assert figures['cost/max_gmac'] == pytest.approx(max(spent))
    assert figures['cost/min_gmac'] == pytest.approx(min(spent))

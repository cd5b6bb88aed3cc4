"""The whole detector: cost, training, prediction, conversion."""

import pytest
import torch
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torch import nn

import mmskip
from mmskip.core import SelfCounting
from tests.helpers.runs import flat, run_stream
from tests.hosts.host import noise, random_walk, take_statistics
from tests.models.efficientdet.detectors import (
    SIZES,
    build,
    config,
    tiny_config,
)

structures = pytest.importorskip('mmdet.structures')

SIDE = 64


def samples(batch, boxes=None):
    """Data samples of square images, as the pipeline makes them."""
    made = []
    for index in range(batch):
        meta = dict(
            img_id=index,
            img_shape=(SIDE, SIDE),
            ori_shape=(SIDE, SIDE),
            scale_factor=(1.0, 1.0),
        )
        sample = structures.DetDataSample(metainfo=meta)
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(boxes or [[8.0, 8.0, 40.0, 40.0]]),
            labels=torch.tensor([1]),
        )
        sample.ignored_instances = InstanceData(
            bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long()
        )
        made.append(sample)
    return made


@pytest.fixture
def model():
    return build(tiny_config())


@pytest.mark.parametrize('name', SIZES)
def test_cost_and_size_are_the_published_ones(name):
    """Within 3 % and rounding.

    Convention: multiply-accumulates of convolutions, squeeze-and-excite
    included, at 90 classes; nothing for normalisations, activations, fusion
    and pooling. Shapes are all that counts, hence the meta device.
    """
    size = SIZES[name]
    model = MODELS.build(config(size)).eval().to('meta')
    image = torch.empty(1, 3, size.input_size, size.input_size, device='meta')
    with mmskip.count_macs(model) as macs, torch.no_grad():
        model(image)
    assert macs.uncounted() == {}
    assert macs.total().dense == pytest.approx(size.gmacs * 1e9, rel=0.03)
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == pytest.approx(size.params * 1e6, abs=0.05e6)


def test_a_training_step_reaches_every_parameter(model):
    data = dict(
        inputs=[torch.randint(0, 255, (3, SIDE, SIDE)) for _ in range(2)],
        data_samples=samples(2),
    )
    data = model.train().data_preprocessor(data, training=True)
    losses = model(**data, mode='loss')
    total, _ = model.parse_losses(losses)
    assert {'loss_cls', 'loss_bbox'} <= set(losses)
    assert torch.isfinite(total)
    total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_predicts_boxes_inside_the_image(model):
    data = dict(
        inputs=[torch.randint(0, 255, (3, SIDE, SIDE)) for _ in range(2)],
        data_samples=samples(2),
    )
    data = model.eval().data_preprocessor(data)
    with torch.no_grad():
        results = model(**data, mode='predict')
    assert len(results) == 2
    for result in results:
        found = result.pred_instances
        assert len(found) == 5
        assert found.bboxes.min() >= 0
        assert found.bboxes.max() <= SIDE
        assert set(found.labels.tolist()) <= {0, 1}


@pytest.mark.parametrize('memory', ['previous', 'accumulated'])
def test_converted_with_open_gates_equals_dense(model, memory):
    dense = model.double().eval()
    take_statistics(dense, lambda m: m(noise(2, 3, SIDE, SIDE)))
    gate = dict(type='mmskip.OutputNormGate', threshold=-1.0)
    conversion = dict(type='mmskip.SkipConversion', gate=gate, memory=memory)
    cfg = tiny_config()
    arch = cfg.pop('type')
    cfg.update(
        type='mmskip.ConvertedModel', arch=arch, conversions=[conversion]
    )
    converted = build(cfg).double().eval()
    converted.load_state_dict(dense.state_dict())
    assert all_convs_skip(converted)
    video = random_walk(3, 1, 3, SIDE, SIDE)
    with torch.no_grad():
        expected = [flat(dense(x)) for x in video]
    outputs, macs = run_stream(converted, video)
    assert macs.uncounted() == {}
    for frame, reference in zip(outputs, expected, strict=True):
        for ours, theirs in zip(frame, reference, strict=True):
            atol = 1e-9 * float(theirs.abs().max())
            torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


def all_convs_skip(model):
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    return all(isinstance(m, SelfCounting) for m in convs)

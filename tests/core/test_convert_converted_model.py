"""Build a stock model and convert it, from a config."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, DefaultScope

import mmskip
from mmskip.skip_conv import SkipConv2d
from mmskip.skip_conv.layer import SkipConv2dAdaptivePadding

pytest.importorskip('mmdet')

GATE = dict(type='mmskip.OutputNormGate', threshold=0.05)
SKIP = dict(type='mmskip.SkipConversion', gate=GATE)
BACKBONE = dict(
    type='ResNet', depth=18, base_channels=8, num_stages=2,
    strides=(1, 2), dilations=(1, 1), out_indices=(0, 1),
)  # fmt: skip


@pytest.fixture(autouse=True)
def _in_mmdet():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def converted(conversions=(SKIP,)):
    return dict(
        BACKBONE,
        type='mmskip.ConvertedModel',
        arch='ResNet',
        conversions=list(conversions),
    )


def test_the_model_is_the_stock_one_with_the_same_keys():
    stock = MODELS.build(BACKBONE)
    model = MODELS.build(converted())

    assert type(model) is type(stock)
    assert type(model).__module__.startswith('mmdet.')
    assert list(model.state_dict()) == list(stock.state_dict())
    assert type(model.conv1) is SkipConv2d


def test_a_plain_checkpoint_loads_strictly_and_gives_the_same_output():
    stock, model = MODELS.build(BACKBONE), MODELS.build(converted())
    stock.eval()
    model.eval()
    x = torch.randn(1, 3, 32, 32)

    model.load_state_dict(stock.state_dict(), strict=True)

    for expected, output in zip(stock(x), model(x), strict=True):
        assert torch.equal(expected, output)
    stock.load_state_dict(model.state_dict(), strict=True)


def test_a_config_file_survives_the_build():
    config = Config(dict(model=converted([dict(SKIP, include='layer1')])))
    before = copy.deepcopy(config.to_dict())

    MODELS.build(config.model)

    assert config.to_dict() == before


def test_initialisation_is_that_of_the_stock_model():
    weights = []
    for config in (BACKBONE, converted()):
        torch.manual_seed(3)
        model = MODELS.build(config)
        model.init_weights()
        weights.append(model.state_dict())

    for key, value in weights[0].items():
        assert torch.equal(value, weights[1][key]), key


def test_adaptive_padding_is_initialised_as_before():
    config = dict(type='EfficientNet', arch='b0', out_indices=(1,))
    weights = []
    for convert in (False, True):
        torch.manual_seed(3)
        model = MODELS.build(config)
        if convert:
            mmskip.convert(model, mmskip.SkipConversion(GATE))
        model.init_weights()
        weights.append(model.state_dict())

    assert any(
        isinstance(m, SkipConv2dAdaptivePadding) for m in model.modules()
    )
    for key, value in weights[0].items():
        assert torch.equal(value, weights[1][key]), key


def test_conversions_are_applied_in_order_each_to_its_layers():
    fine = dict(SKIP, gate=dict(GATE, threshold=0.01), include='layer1')
    coarse = dict(SKIP, exclude=['layer1', 'conv1'])

    model = MODELS.build(converted([fine, coarse]))

    assert model.layer1[0].conv1.gate.threshold == 0.01
    assert model.layer2[0].conv1.gate.threshold == 0.05
    assert type(model.conv1) is torch.nn.Conv2d


def test_a_conversion_is_known_without_its_prefix():
    plain = dict(type='SkipConversion', gate=dict(GATE, type='OutputNormGate'))

    assert type(MODELS.build(converted([plain])).conv1) is SkipConv2d


@pytest.mark.parametrize('conversions', [[], None, SKIP])
def test_conversions_must_be_a_list(conversions):
    config = dict(converted(), conversions=conversions)

    with pytest.raises(ValueError, match=r'expected .*conversions.* got'):
        MODELS.build(config)


def test_an_unknown_architecture_is_reported_by_name():
    with pytest.raises(KeyError, match='NoSuchNet'):
        MODELS.build(dict(converted(), arch='NoSuchNet'))


def test_the_report_is_logged(capfd):
    MMLogger.get_instance('convert', logger_name='convert')

    MODELS.build(converted())

    logged = ''.join(capfd.readouterr())
    assert 'SkipConversion: converted 10 of 10 layers' in logged


def test_a_built_model_streams():
    model = MODELS.build(converted())
    model.eval()
    x = torch.randn(1, 3, 32, 32)

    with (
        torch.no_grad(),
        mmskip.count_macs(model) as macs,
        mmskip.stream(model),
    ):
        for _ in range(4):
            model(x)

    assert macs.total().executed * 4 == macs.total().dense
    assert macs.uncounted() == {}

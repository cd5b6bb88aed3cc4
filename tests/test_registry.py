"""Child registries of mmengine's roots."""

import pytest
from mmengine import registry as roots
from mmengine.registry import DefaultScope

from mmskip import registry
from mmskip.registry import build_own
from mmskip.skip_conv import OutputNormGate

CHILDREN = {
    'MODELS': 'mmskip.SkipConv2d',
    'HOOKS': 'mmskip.VideoHook',
    'METRICS': 'mmskip.ComputeCost',
    'DATASETS': 'mmskip.UADETRACDataset',
    'DATA_SAMPLERS': 'mmskip.VideoOrderSampler',
}


@pytest.mark.parametrize('name', [*CHILDREN, 'TRANSFORMS'])
def test_registries_are_children_of_those_of_mmengine(name):
    child = getattr(registry, name)

    assert child.parent is getattr(roots, name)
    assert child.scope == 'mmskip'


@pytest.mark.parametrize(('name', 'kind'), CHILDREN.items())
@pytest.mark.parametrize('scope', ['mmengine', 'mmdet', 'mmpose', 'mmaction'])
def test_prefixed_names_are_found_from_any_scope(name, kind, scope):
    with DefaultScope.overwrite_default_scope(scope):
        found = getattr(roots, name).get(kind)

    assert found.__module__.startswith('mmskip.')


@pytest.mark.parametrize(
    'kind', ['OutputNormGate', 'mmskip.OutputNormGate', OutputNormGate]
)
@pytest.mark.parametrize('scope', ['mmengine', 'mmdet'])
def test_our_own_parts_are_built_by_name_prefixed_name_or_class(kind, scope):
    config = dict(type=kind, threshold=0.5)
    with DefaultScope.overwrite_default_scope(scope):
        gate = build_own(config, block_size=4)

    assert type(gate) is OutputNormGate
    assert (gate.threshold, gate.block_size) == (0.5, 4)
    assert config == dict(type=kind, threshold=0.5)


@pytest.mark.parametrize(
    ('kind', 'near'),
    [
        ('GumbleGate', 'GumbelGate'),
        ('mmskip.L0Conversions', 'L0Conversion'),
        ('DynamicCostLos', 'DynamicCostLoss'),
        ('KeyFrameModel', 'KeyframeModel'),
    ],
)
def test_an_unknown_part_names_the_registry_and_what_is_near(kind, near):
    with pytest.raises(KeyError, match='mmskip::model registry') as caught:
        build_own(dict(type=kind))

    message = str(caught.value)
    assert f'{kind!r} is not in' in message.replace('\\', '')
    assert f'did you mean {near}' in message
    assert 'OutputNormGate' not in message


def test_a_part_like_no_other_lists_the_known_ones():
    with pytest.raises(KeyError, match=r'known are .*OutputNormGate'):
        build_own(dict(type='xyz'))


@pytest.mark.parametrize('config', [None, 'OutputNormGate', {}, []])
def test_a_config_is_a_dict_with_a_type(config):
    with pytest.raises(TypeError, match="dict with the key 'type'") as caught:
        build_own(config)

    assert 'mmskip::model registry' in str(caught.value)
    assert 'OutputNormGate,' not in str(caught.value)


def test_options_of_what_is_registered_are_checked():
    @registry.HOOKS.register_module(name='OfThisTest')
    def make(interval: int = 1):
        return interval

    try:
        assert roots.HOOKS.build(dict(type='mmskip.OfThisTest')) == 1
        with pytest.raises(ValueError, match='expected interval to be an int'):
            roots.HOOKS.build(dict(type='mmskip.OfThisTest', interval='1'))
    finally:
        del registry.HOOKS.module_dict['OfThisTest']

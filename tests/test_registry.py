"""Child registries of mmengine's roots."""

import subprocess
import sys

import pytest
from mmengine import registry as roots
from mmengine.registry import DefaultScope

from mmskip import registry
from mmskip.layers import OutputNormGate
from mmskip.registry import build_own

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


def test_a_prefixed_name_is_found_without_an_import_of_mmskip():
    program = (
        'from mmengine.registry import MODELS;'
        "print(MODELS.get('mmskip.SkipConv2d').__module__)"
    )

    run = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', program],
        capture_output=True,
        text=True,
        check=True,
    )

    assert run.stdout.strip() == 'mmskip.layers.skip_conv'


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


@pytest.mark.parametrize('kind', ['Conv2d', 'NoSuchGate', 'mmskip.NoSuchGate'])
def test_an_unknown_part_lists_the_known_ones(kind):
    with pytest.raises(KeyError, match='OutputNormGate'):
        build_own(dict(type=kind))


@pytest.mark.parametrize('config', [None, 'OutputNormGate', {}, []])
def test_a_config_is_a_dict_with_a_type(config):
    with pytest.raises(TypeError, match="dict with the key 'type'"):
        build_own(config)

"""What a config names refuses an option by its name."""

import inspect
import re
from collections.abc import Mapping, Sequence
from math import inf, nan
from typing import Literal, get_args

import pytest
from torch import nn

from mmskip import registry
from mmskip.options import check_options, rule_of

REGISTRIES = (
    registry.MODELS,
    registry.HOOKS,
    registry.METRICS,
    registry.DATASETS,
    registry.DATA_SAMPLERS,
    registry.TRANSFORMS,
)
BAD = (nan, inf, -inf, True, 'text', None, 3, 1.5, (), {})
#: What may well be negative.
SIGNED = {'threshold', 'forward_bias', 'start', 'seed'}
#: What the host checks.
OF_HOST = {'depth'}
GATE = dict(type='InputNormGate', threshold=0.1)
MODES = {
    'frozen',
    'inference',
    'key',
    'kernels',
    'mAP',
    'memory',
    'method',
    'on_broken',
    'padding',
    'preset',
    'gate_input',
    'split',
    'subset',
    'time_map',
    'unit',
    'variant',
}
#: What a constructor needs beside that.
NECESSARY_OF = {
    'BiFPN': dict(in_channels=[8, 8], out_channels=8, num_repeats=1),
    'ChannelFusion': dict(in_channels=(8, 8)),
    'NarrowHRNet': dict(extra={}),
    'NarrowResNet': dict(depth=18),
    'SkipConv2d': dict(in_channels=4, out_channels=4, kernel_size=1),
    'SkipConv3d': dict(in_channels=4, out_channels=4, kernel_size=1),
    'SkipConvTranspose2d': dict(in_channels=4, out_channels=4, kernel_size=1),
    'SkipLinear': dict(in_features=4, out_features=4),
    'DynamicConv2d': dict(in_channels=4, out_channels=4, kernel_size=1),
    'DynamicConv3d': dict(in_channels=4, out_channels=4, kernel_size=1),
}
NECESSARY = dict(
    threshold=0.1,
    beta=0.1,
    weight=0.1,
    gate=GATE,
    in_channels=8,
    num_classes=4,
    num_frames=4,
    k=2,
    arch='ResNet',
    conversions=[dict(type='L0Conversion')],
    macs=0.5,
)


def registered():
    """All of ours; what other tests, and pages, register is not looked at."""
    for root in REGISTRIES:
        root.import_from_location()
        yield from (
            found
            for found in root.module_dict.values()
            if found.__module__.startswith('mmskip.')
        )


def options():
    """All options whose kind is known, and what they must not be."""
    for owner in registered():
        for name, parameter in inspect.signature(owner).parameters.items():
            rule = rule_of(parameter.annotation)
            if rule is None or parameter.kind is parameter.VAR_KEYWORD:
                continue
            for value in BAD:
                if not rule.holds(value):
                    yield owner, name, value


def arguments(owner, name, value):
    needed = {
        key: NECESSARY.get(key, {})
        for key, parameter in inspect.signature(owner).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind
        not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    return {**needed, **NECESSARY_OF.get(owner.__name__, {}), name: value}


def accepted(cases, words):
    """Cases that are not refused in these words; ``{}`` is the name.

    One loop for all of them: there are some two thousand.
    """
    found = []
    for owner, name, value in cases:
        pattern = words.replace('{}', re.escape(name))
        try:
            owner(**arguments(owner, name, value))
        except ValueError as error:
            if re.search(pattern, str(error)):
                continue
        found.append((owner.__name__, name, value))
    return found


def test_an_option_of_another_kind_is_refused_by_name():
    cases = [*options()]
    assert len(cases) > 1000
    assert accepted(cases, 'expected {} to be .* got') == []


def numbers():
    """All options that are numbers but those that may be negative."""
    for owner in registered():
        for name, parameter in inspect.signature(owner).parameters.items():
            kinds = {parameter.annotation, *get_args(parameter.annotation)}
            if kinds & {int, float} and name not in SIGNED | OF_HOST:
                yield owner, name, -1


def test_a_negative_number_is_refused_by_name():
    cases = [*numbers()]
    assert len(cases) > 50
    assert accepted(cases, r'expected .*\b{}\b.* got') == []


def modes():
    """All options that are one of some words."""
    for owner in registered():
        for name, parameter in inspect.signature(owner).parameters.items():
            is_word = name in MODES and parameter.annotation is str
            if is_word and (owner.__name__, name) != ('RandomFrames', 'key'):
                yield owner, name, 'no such word'


def test_an_unknown_word_is_refused_by_name():
    cases = [*modes()]
    assert len(cases) > 10
    assert accepted(cases, r'expected .*\b{}\b.* got') == []


@pytest.mark.parametrize(
    ('annotation', 'words'),
    [
        (int | None, 'an int or None'),
        (Literal['a', 'b'], "one of ('a', 'b')"),
        (Sequence[str], 'a list (a string each)'),
        (Mapping[str, int], 'a dict (an int each)'),
        (str | Sequence[str], 'a string or a list (a string each)'),
    ],
)
def test_a_rule_says_what_is_expected(annotation, words):
    assert rule_of(annotation).words == words


@pytest.mark.parametrize('annotation', [nn.Module, int | nn.Module, 'int'])
def test_what_is_not_known_is_not_looked_at(annotation):
    assert rule_of(annotation) is None


def test_unknown_and_missing_options_name_their_owner():
    @check_options
    def half(x: float) -> float:
        return x / 2

    assert half(3) == 1.5
    with pytest.raises(TypeError, match=r"half: .*argument 'y'"):
        half(1, y=2)
    with pytest.raises(TypeError, match=r"half: missing .* 'x'"):
        half()

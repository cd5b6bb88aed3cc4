"""Damage is done at random, and again by the same seed."""

import json

import numpy as np
import pytest

from mmskip.apis.fuzzing import damage

CONTENTS = {
    '.json': json.dumps({'a': [1, 2.5, {'b': 'x'}] * 9}).encode(),
    '.xml': b'<?xml version="1.0" encoding="utf-8"?><a b="1"/>',
    '.txt': b'a.avi 1\nb.avi 2\n' * 5,
    '.mat': bytes(range(256)),
}


def damaged(suffix, seed):
    rng = np.random.default_rng(seed)
    return damage(CONTENTS[suffix], suffix, rng)


@pytest.mark.parametrize('suffix', CONTENTS)
def test_the_same_seed_does_the_same_damage(suffix):
    first = [damaged(suffix, seed) for seed in range(100)]
    assert first == [damaged(suffix, seed) for seed in range(100)]
    assert len(set(first)) > 70
    assert first.count(CONTENTS[suffix]) < 20


@pytest.mark.parametrize('suffix', CONTENTS)
def test_empty_files_can_be_damaged(suffix):
    for seed in range(50):
        damage(b'', suffix, np.random.default_rng(seed))

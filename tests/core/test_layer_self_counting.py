"""What a layer of ours leaves out of its copies."""

import copy
import pickle

import pytest

from mmskip.core import SelfCounting


def pickled(layer):
    return pickle.loads(pickle.dumps(layer))


@pytest.mark.parametrize(
    'duplicate', [copy.copy, copy.deepcopy, pickled], ids=lambda f: f.__name__
)
def test_copies_leave_binding_and_ledger_behind(duplicate):
    layer = SelfCounting()
    layer._binding = layer._ledger = object()
    layer.kept = 3

    twin = duplicate(layer)

    assert twin._binding is None
    assert twin._ledger is None
    assert twin.kept == 3
    assert layer._binding is not None

"""A module of another package is mended when it is imported."""

import importlib
import sys

import pytest

import mmskip.compat
from mmskip.compat.packages import MendingFinder, mend_on_import


@pytest.fixture
def later(tmp_path, monkeypatch):
    """Name of a module that nobody has imported yet."""
    (tmp_path / 'imported_later.py').write_text('value = 1\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, 'meta_path', list(sys.meta_path))
    yield 'imported_later'
    sys.modules.pop('imported_later', None)


def test_a_module_is_mended_when_it_is_imported(later):
    mend_on_import(later, lambda module: vars(module).update(value=2))

    assert later not in sys.modules
    assert importlib.import_module(later).value == 2


def test_a_module_that_is_there_is_mended_at_once(later):
    module = importlib.import_module(later)

    mend_on_import(later, lambda module: vars(module).update(value=2))

    assert module.value == 2


def test_there_is_one_finder_for_a_module():
    for _ in range(2):
        mmskip.compat.apply()

    names = [f.name for f in sys.meta_path if isinstance(f, MendingFinder)]
    assert len(names) == len(set(names))

"""Which implementation of the operators runs."""

import pytest

from mmskip.native import active_backend
from mmskip.native import library as native

BUILT = pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)


@pytest.fixture
def unbuilt(monkeypatch):
    monkeypatch.setattr(native, 'MISSING', 'the C++ operators are not built')


@BUILT
def test_the_native_backend_is_the_default_where_it_is_built(monkeypatch):
    monkeypatch.delenv('MMSKIP_BACKEND', raising=False)

    assert active_backend() == 'native'


def test_the_torch_reference_is_the_default_elsewhere(monkeypatch, unbuilt):
    monkeypatch.delenv('MMSKIP_BACKEND', raising=False)

    assert active_backend() == 'reference'


@pytest.mark.parametrize(
    'name', ['reference', pytest.param('native', marks=BUILT)]
)
def test_a_backend_is_chosen_by_name(monkeypatch, name):
    monkeypatch.setenv('MMSKIP_BACKEND', name)

    assert active_backend() == name


def test_an_unknown_backend_is_refused(monkeypatch):
    monkeypatch.setenv('MMSKIP_BACKEND', 'abacus')

    with pytest.raises(ValueError, match=r"'abacus'.*reference, native"):
        active_backend()


def test_a_backend_that_is_not_built_is_refused(monkeypatch, unbuilt):
    monkeypatch.setenv('MMSKIP_BACKEND', 'native')

    with pytest.raises(ValueError, match=r'not built.*reference'):
        active_backend()

"""Which implementation of the operators runs."""

import pytest

from mmskip.ops import active_backend


def test_the_torch_reference_is_the_default(monkeypatch):
    monkeypatch.delenv('MMSKIP_BACKEND', raising=False)

    assert active_backend() == 'reference'


def test_a_backend_is_chosen_by_name(monkeypatch):
    monkeypatch.setenv('MMSKIP_BACKEND', 'reference')

    assert active_backend() == 'reference'


def test_an_unknown_backend_is_refused(monkeypatch):
    monkeypatch.setenv('MMSKIP_BACKEND', 'abacus')

    with pytest.raises(ValueError, match=r"'abacus'.*reference"):
        active_backend()

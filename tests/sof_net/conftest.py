"""SoF-Net needs mmaction2, which mmskip mends when it is imported."""

import pytest

import mmskip  # noqa: F401

pytest.importorskip('mmaction')

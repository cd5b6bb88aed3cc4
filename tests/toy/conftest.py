import pytest

from mmskip.toy import Sequences, make_toy_ua_detrac


@pytest.fixture(scope='session')
def small():
    """Arguments of a data set that is made in a second or two."""
    return dict(train=Sequences(4, 12), test=Sequences(2, 12), size=(160, 96))


@pytest.fixture(scope='session')
def toy(tmp_path_factory, small):
    """A small toy UA-DETRAC."""
    return make_toy_ua_detrac(tmp_path_factory.mktemp('toy') / 'new', **small)

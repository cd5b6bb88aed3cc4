import pytest

from mmskip.toy import make_toy_ua_detrac


@pytest.fixture(scope='session')
def small():
    """Arguments of a data set that is made in a second or two."""
    return dict(train_sequences=4, test_sequences=2, frames=12, size=(160, 96))


@pytest.fixture(scope='session')
def toy(tmp_path_factory, small):
    """A small toy UA-DETRAC."""
    return make_toy_ua_detrac(tmp_path_factory.mktemp('toy') / 'new', **small)

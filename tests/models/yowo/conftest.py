import pytest


@pytest.fixture(autouse=True)
def _mmaction_scope():
    pytest.importorskip('mmdet')
    pytest.importorskip('mmaction')
    from mmaction.utils import register_all_modules
    from mmengine.registry import DefaultScope

    register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield

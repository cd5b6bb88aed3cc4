"""How mmengine finds installed packages and the configs inside them."""

import importlib.metadata
import subprocess
import sys

import pytest
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.utils import package_utils

from mmskip.compat import announce_configs, find_installed_packages, packages

WITHOUT_PKG_RESOURCES = """
import importlib.util, sys
sys.modules['pkg_resources'] = None
import mmengine.config.config, mmengine.hub.hub
import mmskip
from mmengine.config import Config
from mmengine.hub import hub
from mmengine.utils import get_installed_path, is_installed
assert get_installed_path('mmengine').endswith('mmengine')
assert hub.get_installed_path is get_installed_path
assert is_installed('mmengine') and not is_installed('no_such_package')
if importlib.util.find_spec('mmdet') is not None:
    cfg = Config.fromfile(sys.argv[1])
    assert cfg.model.type == 'RetinaNet'
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A distribution ``my-package`` of a module ``my_module``."""

    def install(code, metadata):
        source, site = tmp_path / code, tmp_path / metadata
        (source / 'my_module').mkdir(parents=True)
        (source / 'my_module' / '__init__.py').touch()
        info = site / 'my_package-1.0.dist-info'
        info.mkdir(parents=True)
        (info / 'METADATA').write_text('Name: my-package\nVersion: 1.0\n')
        (info / 'top_level.txt').write_text('my_module\n')
        monkeypatch.syspath_prepend(site)
        monkeypatch.syspath_prepend(source)
        return str(source / 'my_module')

    return install


@pytest.fixture
def mmengine_functions(monkeypatch):
    """mmengine's functions, put back afterwards; here: markers."""
    names = ('is_installed', 'package2module', 'get_installed_path')
    for name in names:
        marker = object()
        monkeypatch.setattr(package_utils, name, marker)
        for module in list(sys.modules.values()):
            if name in getattr(module, '__dict__', {}) and (
                module.__name__.startswith(('mmengine', 'mmpose'))
            ):
                monkeypatch.setattr(module, name, marker)
    return {name: getattr(package_utils, name) for name in names}


def test_configs_of_hosts_resolve_without_pkg_resources(tmp_path):
    config = tmp_path / 'config.py'
    base = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
    config.write_text(f'_base_ = {base!r}\n')
    done = subprocess.run(
        [sys.executable, '-c', WITHOUT_PKG_RESOURCES, str(config)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_nothing_is_replaced_without_need(mmengine_functions, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pkg_resources', sys)
    monkeypatch.setattr(packages, 'is_editable', lambda module: False)
    find_installed_packages()
    for name, function in mmengine_functions.items():
        assert getattr(package_utils, name) is function


def test_functions_are_replaced_where_they_were_imported(
    mmengine_functions, monkeypatch
):
    monkeypatch.setitem(sys.modules, 'pkg_resources', None)
    find_installed_packages()
    find_installed_packages()
    config = sys.modules['mmengine.config.config']
    assert package_utils.package2module is packages.package2module
    assert config.get_installed_path is packages.get_installed_path
    assert config.is_installed is packages.is_installed


@pytest.mark.parametrize('name', ['my-package', 'my_module'])
@pytest.mark.parametrize('metadata', ['site', 'elsewhere'])
def test_path_is_that_of_the_code(package, name, metadata):
    path = package(code='site', metadata=metadata)
    assert packages.get_installed_path(name) == path
    assert packages.is_installed(name)
    assert packages.package2module('my-package') == 'my_module'


def test_editable_install_is_recognised(package, monkeypatch):
    monkeypatch.setitem(MODULE2PACKAGE, 'my_module', 'my-package')
    package(code='code', metadata='site')
    assert packages.is_editable('my_module')


def test_regular_install_is_not_editable(package, monkeypatch):
    monkeypatch.setitem(MODULE2PACKAGE, 'my_module', 'my-package')
    package(code='site', metadata='site')
    assert not packages.is_editable('my_module')
    assert not packages.is_editable('no_such_package')


def test_missing_package_is_an_error():
    assert not packages.is_installed('no_such_package')
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        packages.get_installed_path('no_such_package')


def test_namespace_package_is_an_error(tmp_path, monkeypatch):
    (tmp_path / 'my_namespace').mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not packages.is_installed('my_namespace')
    with pytest.raises(RuntimeError, match='namespace package'):
        packages.get_installed_path('my_namespace')


def test_mmengine_knows_our_configs(monkeypatch):
    monkeypatch.delitem(MODULE2PACKAGE, 'mmskip', raising=False)
    announce_configs()
    assert MODULE2PACKAGE['mmskip'] == 'mmskip'


def test_what_is_ours_is_built_in_the_scope_of_the_config(tmp_path):
    announce_configs()
    announce_configs()
    names = dict(
        ours='mmskip::_base_/datasets/ua_detrac.py',
        theirs='mmdet::_base_/models/retinanet_r50_fpn.py',
    )
    pytest.importorskip('mmdet')
    for name, base in names.items():
        (tmp_path / f'{name}.py').write_text(f'_base_ = {base!r}\n')
    ours = Config.fromfile(tmp_path / 'ours.py')
    theirs = Config.fromfile(tmp_path / 'theirs.py')

    assert ours.train_dataloader.dataset.type == 'mmskip.UADETRACDataset'
    assert '_scope_' not in str(ours.to_dict())
    assert theirs.model._scope_ == 'mmdet'


def test_entry_of_a_later_mmengine_is_kept(monkeypatch):
    monkeypatch.setitem(MODULE2PACKAGE, 'mmskip', 'mmskip-renamed')
    announce_configs()
    assert MODULE2PACKAGE['mmskip'] == 'mmskip-renamed'

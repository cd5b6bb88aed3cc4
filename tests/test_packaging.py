"""A wheel, and an editable install, carry the configs and work."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PIP = (sys.executable, '-m', 'pip', '--disable-pip-version-check', '-q')
OFFLINE = ('--no-deps', '--no-build-isolation', '--no-index')
SOURCES = (
    *('mmskip', 'configs', 'tools'),
    *('setup.py', 'pyproject.toml', 'MANIFEST.in', 'model-index.yml'),
    *('README.md', 'LICENSE', 'CHANGELOG.md'),
)
RESOLVE = """
import sys
import mmskip
from mmengine.config import Config
from mmengine.utils import get_installed_path
assert get_installed_path('mmskip') == sys.argv[1], (
    get_installed_path('mmskip'))
print(Config.fromfile(sys.argv[2]).filename)
"""


def run(*command, **kwargs):
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, **kwargs
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module', autouse=True)
def without_native():
    """Builds of seconds: what is tested here are files, not operators."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMSKIP_BUILD_NATIVE', '0')
        yield


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    """A copy of the sources, so that builds leave nothing in the original."""
    root = tmp_path_factory.mktemp('checkout')
    junk = shutil.ignore_patterns('__pycache__', '.mim', '*.so')
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=junk)
        else:
            shutil.copy2(ROOT / name, root / name)
    return root


@pytest.fixture(scope='module')
def wheel(checkout, tmp_path_factory):
    folder = tmp_path_factory.mktemp('wheel')
    run(*PIP, 'wheel', *OFFLINE, '-w', str(folder), str(checkout))
    (path,) = folder.glob('mmskip-*.whl')
    return path


@pytest.fixture(scope='module')
def a_config():
    """One of our configs, as ``mmskip::`` names it."""
    configs = sorted((ROOT / 'configs').glob('*/**/*.py'))
    if not configs:
        pytest.skip('there are no configs')
    return configs[0].relative_to(ROOT / 'configs').as_posix()


def files_below(name):
    return {
        f'mmskip/.mim/{path.relative_to(ROOT).as_posix()}'
        for path in (ROOT / name).rglob('*')
        if path.is_file()
        and not any(
            part.startswith('.') or part == '__pycache__'
            for part in path.relative_to(ROOT).parts
        )
    }


def resolve(config, package, *, cwd, **kwargs):
    """Load a config that is based on ``mmskip::...``, far from the sources."""
    child = cwd / 'child.py'
    child.write_text(f"_base_ = 'mmskip::{config}'\n")
    arguments = (sys.executable, '-c', RESOLVE, str(package), str(child))
    assert run(*arguments, cwd=cwd, **kwargs).strip() == str(child)


def test_wheel_has_package_configs_tools_and_index(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / 'mmskip').rglob('*.py')
        if '.mim' not in path.parts
    }
    expected = files_below('configs') | files_below('tools') | sources
    assert expected <= names
    assert 'mmskip/.mim/model-index.yml' in names


def test_wheel_has_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split('/')[0].split('-')[0] for name in names} == {'mmskip'}
    assert not [name for name in names if '__pycache__' in name]
    assert len(names) == len(set(names))


def test_installed_wheel_resolves_its_configs(wheel, a_config, tmp_path):
    site, elsewhere = tmp_path / 'site', tmp_path / 'elsewhere'
    elsewhere.mkdir()
    # A wheel of Python alone is installed by unpacking it.
    zipfile.ZipFile(wheel).extractall(site)
    resolve(
        a_config,
        site / 'mmskip',
        cwd=elsewhere,
        env={'PYTHONPATH': str(site), 'PATH': ''},
    )


def test_editable_install_resolves_configs_in_place(
    checkout, a_config, tmp_path
):
    site, elsewhere = tmp_path / 'site', tmp_path / 'elsewhere'
    elsewhere.mkdir()
    arguments = ('--target', str(site), '-e', str(checkout))
    run(*PIP, 'install', *OFFLINE, *arguments)
    link = checkout / 'mmskip' / '.mim' / 'configs'
    assert link.is_symlink()
    assert link.resolve() == checkout / 'configs'
    start = f'import site; site.addsitedir({str(site)!r})\n'
    hook = tmp_path / 'hook'
    hook.mkdir()
    (hook / 'sitecustomize.py').write_text(start)
    resolve(
        a_config,
        checkout / 'mmskip',
        cwd=elsewhere,
        env={'PYTHONPATH': f'{hook}:{site}', 'PATH': ''},
    )


def test_hosts_are_extras(wheel):
    metadata = (
        zipfile.ZipFile(wheel)
        .read(
            next(
                n for n in zipfile.ZipFile(wheel).namelist() if 'METADATA' in n
            )
        )
        .decode()
    )
    required = re.findall(r'^Requires-Dist: (.+)$', metadata, re.MULTILINE)
    hosts = [line for line in required if line.startswith('mm')]
    assert [line for line in hosts if 'extra ==' not in line] == [
        'mmengine>=0.10.7'
    ]
    extras = re.findall(r'^Provides-Extra: (.+)$', metadata, re.MULTILINE)
    hosts = {'det', 'pose', 'action', 'seg', 'all'}
    assert set(extras) == hosts | {'benchmark', 'cameras', 'onnx', 'ray'}
    assert not [line for line in required if '<' in line or '==0' in line]


def test_version_is_that_of_the_package(wheel):
    text = (ROOT / 'mmskip' / '__init__.py').read_text()
    version = re.search(r"__version__ = '(.+)'", text)[1]
    assert wheel.name == f'mmskip-{version}-py3-none-any.whl'


def test_model_index_lists_every_metafile():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    metafiles = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / 'configs').rglob('metafile.yml')
    }
    assert set(index['Import']) == metafiles


def test_tools_and_pins_agree_on_ruff():
    settings = tomllib.loads((ROOT / 'pyproject.toml').read_text())
    required = settings['tool']['ruff']['required-version']
    pins = (ROOT / 'tools' / 'pins.txt').read_text().split()
    assert f'ruff{required}' in pins


def test_pins_are_exact_and_sorted_out():
    lines = (ROOT / 'tools' / 'pins.txt').read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith('#')]
    assert all(re.fullmatch(r'[\w.-]+==[\w.]+', pin) for pin in pins)
    names = [
        re.sub(r'[-_.]+', '-', pin.split('==')[0]).lower() for pin in pins
    ]
    assert len(names) == len(set(names))

import sys

import pytest
from mmengine.config import Config

from mmskip.apis import UserError, import_host, load_config
from mmskip.apis.models import HOSTS, check_checkpoint, set_work_dir


def write(path, text):
    path.write_text(text)
    return path


def test_options_are_merged(tmp_path):
    path = write(tmp_path / 'a.py', 'model = dict(depth=18)')
    assert load_config(path, {'model.depth': 50}).model.depth == 50


def test_a_missing_config_is_named(tmp_path):
    with pytest.raises(UserError, match=r'config not found: .*a\.py'):
        load_config(tmp_path / 'a.py')


@pytest.mark.parametrize(
    'text',
    [
        'model = dict(',
        "_base_ = './no_such_base.py'",
        "_base_ = 'nohost::no/such.py'",
        "custom_imports = dict(imports=['no_such_module'])",
        'x = 1 / 0',
    ],
)
def test_a_config_that_cannot_be_read_is_named(tmp_path, text):
    path = write(tmp_path / 'a.py', text)
    with pytest.raises(UserError, match=r'cannot read config .*a\.py: \w+'):
        load_config(path)


def test_options_that_do_not_fit_are_shown(tmp_path):
    path = write(tmp_path / 'a.py', 'hooks = [1, 2]')
    with pytest.raises(UserError, match=r'hooks\.7'):
        load_config(path, {'hooks.7.x': 1})


@pytest.mark.parametrize('host', HOSTS)
def test_the_host_is_the_default_scope(host):
    pytest.importorskip(host)
    assert import_host(Config(dict(default_scope=host))) == host


@pytest.mark.parametrize('scope', [None, 'mmengine', 'mmskip'])
def test_no_host_is_needed_for_mmengines_own_scopes(scope):
    assert import_host(Config(dict(default_scope=scope))) is None


def test_an_unknown_host_is_refused():
    with pytest.raises(UserError, match='expected one of mmdet, mmpose'):
        import_host(Config(dict(default_scope='mmpretrain')))


def test_a_missing_host_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmpose', None)
    monkeypatch.setitem(sys.modules, 'mmpose.utils', None)
    with pytest.raises(UserError, match=r"pip install 'mmskip\[pose\]'"):
        import_host(Config(dict(default_scope='mmpose')))


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(UserError, match=r'checkpoint not found: .*a\.pth'):
        check_checkpoint(tmp_path / 'a.pth')


def test_the_address_of_a_checkpoint_passes():
    address = 'https://example.com/a.pth'
    assert check_checkpoint(address) == address


def test_the_work_dir_comes_from_the_command_line_then_the_config():
    cfg = Config(dict(work_dir='from_config'))
    set_work_dir(cfg, 'configs/a.py', None)
    assert cfg.work_dir == 'from_config'
    set_work_dir(cfg, 'configs/a.py', 'from_command_line')
    assert cfg.work_dir == 'from_command_line'
    cfg = Config()
    set_work_dir(cfg, 'configs/a.py', None)
    assert cfg.work_dir == 'work_dirs/a'

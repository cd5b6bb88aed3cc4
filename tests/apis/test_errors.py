import pytest
from mmengine.registry import MODELS, Registry
from mmengine.runner import load_checkpoint
from torch import nn

from mmskip.apis import UserError
from mmskip.apis.errors import (
    EXIT_INTERRUPTED,
    EXIT_MISTAKE,
    explain_mistake,
    one_line,
    run_tool,
)
from mmskip.experiments import write_json


def caught(function, *args):
    try:
        function(*args)
    except Exception as error:
        return error
    raise AssertionError('expected an error')


def raise_error(error):
    raise error


def test_a_text_becomes_one_line():
    assert one_line(ValueError('first\n   second')) == 'first second'
    assert one_line(KeyError('a key')) == 'a key'
    assert one_line(ValueError()) == 'ValueError'


def test_an_unknown_type_in_a_config_is_a_mistake():
    error = caught(MODELS.build, dict(type='NoSuchModel'))
    assert 'NoSuchModel is not in the' in explain_mistake(error)


def test_a_wrong_argument_in_a_config_is_a_mistake():
    registry = Registry('a test')
    registry.register_module(module=nn.ReLU)
    error = caught(registry.build, dict(type='ReLU', outplace=True))
    assert "argument 'outplace'" in explain_mistake(error)


def test_a_file_that_is_no_checkpoint_is_a_mistake(tmp_path):
    path = tmp_path / 'a.pth'
    path.write_bytes(b'no checkpoint')
    error = caught(load_checkpoint, nn.Linear(1, 1), str(path))
    assert explain_mistake(error)


def test_a_file_that_cannot_be_written_is_a_mistake(tmp_path):
    (tmp_path / 'file').touch()
    out = tmp_path / 'file' / 'result.json'
    text = explain_mistake(caught(write_json, out, {}))
    assert text.startswith('cannot write: ')
    assert str(tmp_path / 'file') in text


def test_a_bug_is_no_mistake():
    assert explain_mistake(caught(raise_error, KeyError('a bug'))) is None


def test_a_mistake_is_one_line_and_exit_code_2(capsys, monkeypatch):
    monkeypatch.delenv('MMSKIP_DEBUG', raising=False)
    error = UserError('no such\nfile')
    assert run_tool(lambda _: raise_error(error), 'tool') == EXIT_MISTAKE
    captured = capsys.readouterr()
    assert captured.err.startswith('tool: error: no such file')
    assert captured.err.count('\n') == 1
    assert not captured.out


def test_mistakes_raise_when_debugging(monkeypatch):
    monkeypatch.setenv('MMSKIP_DEBUG', '1')
    error = UserError('no such file')
    with pytest.raises(UserError):
        run_tool(lambda _: raise_error(error), 'tool')


def test_a_bug_raises():
    with pytest.raises(ZeroDivisionError):
        run_tool(lambda _: 1 // 0, 'tool')


def test_an_interrupt_has_its_exit_code(capsys):
    def main(_):
        raise KeyboardInterrupt

    assert run_tool(main, 'tool') == EXIT_INTERRUPTED
    assert capsys.readouterr().err == 'tool: interrupted\n'

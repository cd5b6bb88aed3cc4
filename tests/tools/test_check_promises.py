"""The command that tries what once went wrong without a word."""

import json
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / 'tools'


@pytest.fixture
def tool(load_tool, monkeypatch):
    monkeypatch.setattr(sys, 'path', [str(TOOLS), *sys.path])
    return load_tool('check_promises')


def test_what_holds_is_told(tool, tmp_path, capsys):
    path = tmp_path / 'found.json'

    assert tool.main(['--only', 'levels', '--json', str(path)]) == 0

    rows = json.loads(path.read_text())
    assert len(rows) >= 4
    assert all(row['held'] is True and row['found'] for row in rows)
    assert f'{len(rows)} of {len(rows)} hold' in capsys.readouterr().out


def test_what_does_not_hold_is_an_exit_code(tool, monkeypatch, capsys):
    def broken():
        return False, 'seen otherwise'

    monkeypatch.setattr(tool.levels, 'CHECKS', (broken,))

    assert tool.main(['--only', 'levels']) == 1
    assert 'seen otherwise' in capsys.readouterr().out


def test_each_check_says_what_must_hold(tool):
    for module in tool.MODULES:
        assert module.CHECKS
        for check in module.CHECKS:
            assert check.__doc__, check

"""``tools/make_toy_ua_detrac.py``."""

import runpy
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[3] / 'tools' / 'make_toy_ua_detrac.py'
OPTIONS = (
    '--train-sequences 1 --test-sequences 1 --frames 3 --train-frames 2 '
    '--size 64 64'
)


@pytest.fixture
def run(monkeypatch):
    """Run the tool as from the command line."""

    def main(*arguments):
        command = [str(TOOL), *map(str, arguments), *OPTIONS.split()]
        monkeypatch.setattr(sys, 'argv', command)
        runpy.run_path(str(TOOL), run_name='__main__')

    return main


def test_it_writes_once_and_says_where(run, tmp_path, capsys):
    run(tmp_path / 'toy')
    assert len(list((tmp_path / 'toy').rglob('*.jpg'))) == 5
    run(tmp_path / 'toy')
    out = capsys.readouterr().out.replace('\n', '')
    assert '5/5' in out
    assert out.count(f'toy UA-DETRAC is in {tmp_path / "toy"}') == 2


def test_a_foreign_folder_is_one_line_and_an_exit_status(run, tmp_path):
    (tmp_path / 'thesis.txt').touch()
    with pytest.raises(SystemExit) as error:
        run(tmp_path)
    assert str(error.value).startswith(f'make_toy_ua_detrac: {tmp_path}: ')
    assert '\n' not in str(error.value)

"""The console command ``mmskip``."""

import subprocess
import sys
from pathlib import Path

import pytest

from mmskip import __version__, cli

ROOT = Path(__file__).resolve().parents[1]
#: Tools that set a checkout up; no wheel can use them.
NO_COMMANDS = {'build_mmcv'}
#: Folders with parts of a tool, or with what one reads.
PARTS = {'comparisons', 'docs', 'from_onnx', 'promises'}


def test_help_fits_a_screen_and_begins_with_the_demo(capsys):
    assert cli.main(['--help']) == 0
    text = capsys.readouterr().out

    assert len(text.splitlines()) <= 24
    assert max(map(len, text.splitlines())) <= 79
    assert text.index('demo') < text.index('train ')
    assert cli.main([]) == 0
    assert capsys.readouterr().out == text


def test_every_tool_has_one_command():
    reached = [
        cli.tools_folder() / f'{name}.py'
        for name, _ in cli.COMMANDS.values()
        if name
    ]
    for group in cli.GROUPS:
        reached += cli.tools_of(group).values()

    files = {path.resolve() for path in reached}
    assert len(files) == len(reached)
    tools = {
        path.resolve()
        for path in (ROOT / 'tools').rglob('*.py')
        if path.parent.name not in PARTS
    }
    assert {path.stem for path in tools - files} == NO_COMMANDS
    assert not files - tools


@pytest.mark.parametrize('group', cli.GROUPS)
def test_help_of_a_group_has_a_line_for_each_tool(group, capsys):
    assert cli.main([group]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]

    assert [line.split()[0] for line in lines] == list(cli.tools_of(group))
    assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize(
    ('arguments', 'meant'),
    [(['steam'], 'stream'), (['analyze', 'firing-rate'], 'firing-rates')],
)
def test_an_unknown_name_is_one_line_that_names_the_nearest(
    arguments, meant, capsys
):
    assert cli.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f'did you mean {meant}?')


def test_a_tool_runs_in_an_empty_folder_under_the_name_of_the_command(
    tmp_path,
):
    done = subprocess.run(
        [sys.executable, '-m', 'mmskip', 'make-toy', 'ua-detrac', '--help'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('usage: mmskip make-toy ua-detrac ')
    assert not list(tmp_path.iterdir())


def test_the_exit_code_of_a_tool_is_that_of_the_command(capsys):
    assert cli.main(['stream', '--no-such-option']) == 2
    assert 'mmskip stream' in capsys.readouterr().err


def test_the_version_is_printed(capsys):
    assert cli.main(['--version']) == 0
    assert capsys.readouterr().out.strip() == __version__

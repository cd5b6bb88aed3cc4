"""Every tool that writes toy data writes a small one, and refuses others."""

import pytest

from mmskip.apis import UserError
from mmskip.apis.errors import EXIT_MISTAKE, run_tool

FEW = ['--train-videos', '1', '--test-videos', '1']
SMALL = dict(
    activitynet=['--frames', '12', *FEW],
    hmdb51=['--frames', '8', '--unused-videos', '0', *FEW],
    jhmdb=['--frames', '1', '2', *FEW],
    kinetics=['--frames', '8', *FEW],
    sub_jhmdb=['--frames', '1', '2', *FEW],
    ua_detrac=[
        '--train-sequences',
        '1',
        '--test-sequences',
        '1',
        '--train-frames',
        '1',
        '--frames',
        '2',
    ],
)


@pytest.mark.parametrize('name', SMALL)
def test_a_small_one_is_written_once(name, load_tool, tmp_path, capsys):
    tool = load_tool(f'make_toy_{name}')
    argv = [str(tmp_path / 'data'), *SMALL[name]]

    assert tool.main(argv) == 0
    first = {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*')}
    assert tool.main(argv) == 0

    assert first == {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*')}
    assert f'is in {tmp_path / "data"}' in capsys.readouterr().out
    with pytest.raises(UserError, match='made with seed=0 instead of 1'):
        tool.main([*argv, '--seed', '1'])


def test_progress_ends_with_the_last_frame(load_tool, tmp_path, capsys):
    argv = [str(tmp_path / 'data'), *SMALL['ua_detrac']]
    load_tool('make_toy_ua_detrac').main(argv)

    assert '3/3 frames' in capsys.readouterr().out


def test_a_foreign_folder_is_one_line_and_an_exit_status(
    load_tool, tmp_path, capsys
):
    (tmp_path / 'thesis.txt').touch()
    tool = load_tool('make_toy_kinetics')

    code = run_tool(tool.main, 'make_toy_kinetics', [str(tmp_path)])

    error = capsys.readouterr().err.strip()
    assert code == EXIT_MISTAKE
    assert error.startswith(f'make_toy_kinetics: error: {tmp_path}: expected')
    assert '\n' not in error

import pytest

from mmskip.apis import UserError
from mmskip.apis.experiments.processes import as_option, run_tool_process


def test_a_tool_runs_with_options_and_threads(tmp_path):
    script = tmp_path / 'tool.py'
    script.write_text(
        "import os, sys; print('eta: 1 day, 0:00:09')\n"
        "print(sys.argv[1:], os.environ['OMP_NUM_THREADS'])"
    )
    log, told = tmp_path / 'new/tool.log', []

    run_tool_process([script, 1], {'a.b': (2, 3)}, log, 4, told.append)

    assert told == ['1 day, 0:00:09']
    last = log.read_text().splitlines()[-1]
    assert last == "['1', '--cfg-options', 'a.b=(2,3)'] 4"


def test_a_tool_that_fails_is_a_mistake_with_its_last_line(tmp_path):
    script = tmp_path / 'tool.py'
    script.write_text("raise SystemExit('tool: error: this fails')")
    with pytest.raises(UserError, match=r'this fails \(see .*tool.log\)'):
        run_tool_process([script], {}, tmp_path / 'tool.log', None, str)


@pytest.mark.parametrize(
    ('value', 'text'),
    [
        (0.0625, 'a.b=0.0625'),
        (None, 'a.b=None'),
        (True, 'a.b=True'),
        ('mmskip.Gate', 'a.b=mmskip.Gate'),
        ([1, (2, 3)], 'a.b=[1,(2,3)]'),
    ],
)
def test_options_survive_the_command_line(value, text):
    assert as_option(('a.b', value)) == text


@pytest.mark.parametrize('value', ['a b', '1', dict(type='Gate'), 'a,b'])
def test_options_that_would_change_are_refused(value):
    with pytest.raises(UserError, match='would be read as'):
        as_option(('a.b', value))

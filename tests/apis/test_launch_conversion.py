"""What converters print."""

import warnings
from pathlib import Path

import pytest

from mmskip.apis import UserError
from mmskip.apis.errors import EXIT_INCOMPLETE, EXIT_OK
from mmskip.apis.launch import report_lists
from mmskip.datasets.action_lists import ListReport


def test_lists_and_missing_videos_are_told(capsys):
    missing = tuple('abcdefg')
    reports = [ListReport(Path('l.txt'), 1234, missing)]
    assert report_lists(lambda: reports) == EXIT_INCOMPLETE
    assert capsys.readouterr().out == (
        'l.txt: 1,234 videos\n'
        '  7 annotated videos are not on disk: a, b, c, d, e, ...\n'
    )


def test_nothing_missing_is_success_and_warnings_are_lines(capsys):
    def convert():
        warnings.warn('an odd size', stacklevel=1)
        yield ListReport(Path('l.txt'), 1, ())

    assert report_lists(convert) == EXIT_OK
    assert 'warning: an odd size\n' in capsys.readouterr().out


@pytest.mark.parametrize('error', [ValueError, FileNotFoundError])
def test_bad_files_are_the_users_mistake(error):
    def convert():
        raise error('not that file')

    with pytest.raises(UserError, match='not that file'):
        report_lists(convert)

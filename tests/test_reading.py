"""Whatever goes wrong while a file is read, its name is told."""

import json
import re
import zlib

import pytest

from mmskip.reading import (
    InputError,
    read_csv,
    read_json,
    read_lines,
    reading,
    reads,
)

FOREIGN = (
    zlib.error('incorrect header check'),
    TypeError('unhashable'),
    IndexError(),
    UnicodeDecodeError('utf-8', b'\xff', 0, 1, 'invalid start byte'),
    LookupError('unknown encoding: utf-99'),
    RecursionError('too deep'),
    OverflowError('too large'),
    MemoryError(),
    ValueError('no name in it'),
    OSError('the disk is gone'),
    KeyError('images'),
)


@pytest.mark.parametrize('error', FOREIGN, ids=lambda e: type(e).__name__)
def test_foreign_errors_get_the_name_of_the_file(error):
    with pytest.raises(InputError) as caught, reading('a/b.json', 'a list'):
        raise error
    assert str(caught.value).startswith('a/b.json: expected a list, got')
    assert type(error).__name__ in str(caught.value)
    assert caught.value.__cause__ is error


def test_our_errors_keep_their_text():
    for text in ('x.txt: line 3: expected', 'line 3: expected'):
        with pytest.raises(InputError) as caught, reading('x.txt', 'a list'):
            raise InputError(text)
        assert str(caught.value) == 'x.txt: line 3: expected'


def test_files_that_are_not_there_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no\.txt'):
        read_lines(tmp_path / 'no.txt')
    with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))):
        read_json(tmp_path)


def test_interrupts_and_warnings_are_no_faults_of_a_file():
    for error in (KeyboardInterrupt(), UserWarning('odd')):
        with pytest.raises(type(error)), reading('x', 'a list'):
            raise error


def test_a_function_of_a_path_runs_in_it():
    @reads('a pair', 'mend it')
    def second(path, index=1):
        return path[index]

    assert second('ab') == 'b'
    with pytest.raises(InputError, match=r'^ab: expected a pair.*; mend it$'):
        second('ab', index=7)


def test_long_content_is_cut(tmp_path):
    path = tmp_path / 'x.json'
    path.write_text('{"%s": 1, "%s": 2}' % (('a' * 10_000,) * 2))
    with pytest.raises(InputError) as caught:
        read_json(path)
    assert len(str(caught.value)) < 500


def test_lines_have_numbers_and_blank_ones_are_left_out(tmp_path):
    path = tmp_path / 'x.txt'
    path.write_bytes(b'\xef\xbb\xbfa 1\r\n\r\n b\x0b2 \n')
    assert read_lines(path) == [(1, 'a 1'), (3, 'b\x0b2')]


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'empty file'),
        (b' \n\n', 'empty file'),
        ('a 1\n'.encode('utf-16'), 'UTF-8'),
        (b'a\nb\0\n', 'line 2'),
    ],
)
def test_files_without_lines_are_refused(tmp_path, content, message):
    path = tmp_path / 'x.txt'
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf'x\.txt.*{message}'):
        read_lines(path)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('{"a": NaN}', 'NaN.*not finite'),
        ('[-Infinity]', 'not finite'),
        ('[1e999]', '1e999.*not finite'),
        ('{"a": [{"b": 1, "b": 1}]}', "'b' twice"),
        ('[' * 100_000, 'RecursionError'),
        ('1' * 10_000, 'ValueError'),
        ('', 'JSONDecodeError'),
    ],
)
def test_what_python_makes_of_json_is_refused(tmp_path, content, message):
    path = tmp_path / 'x.json'
    path.write_text(content)
    with pytest.raises(InputError, match=rf'x\.json.*{message}'):
        read_json(path)


def test_results_may_have_no_value(tmp_path):
    path = tmp_path / 'x.json'
    path.write_text(json.dumps([1.5, float('nan')]))
    first, second = read_json(path, finite=False)
    assert first == 1.5
    assert second != second


def test_rows_have_the_numbers_of_their_lines(tmp_path):
    path = tmp_path / 'x.csv'
    path.write_bytes(b'a,"b, c"\r\n\r\nd,e\r\n')
    assert list(read_csv(path)) == [(1, ['a', 'b, c']), (3, ['d', 'e'])]


@pytest.mark.parametrize(
    'lines',
    [
        ['a,1', '"b,2', 'c,3'],  # to the end of the file
        ['a,1', '"b,2', 'c,"3'],  # to the next quote
        ['a,1', '"b"x,2', 'c,3'],
        ['a,1', '"' + 'b' * 200_000, 'c"'],  # more than a field may have
    ],
)
def test_an_open_quote_swallows_no_rows(tmp_path, lines):
    path = tmp_path / 'x.csv'
    path.write_text('\n'.join(lines) + '\n')
    with pytest.raises(InputError, match=r'x\.csv: line 2: .*quote'):
        list(read_csv(path))

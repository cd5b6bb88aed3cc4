"""Reading a user's files, and saying what is wrong with them.

Parsers raise what they like: ``zlib.error``, ``IndexError``,
``RecursionError``. Behind :func:`reading` all of it is an
:class:`~mmskip.reading.InputError` that names the file. The plain formats
that annotations come in are read here, too, without what is silently wrong
in them.
"""

import csv
import functools
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

# Characters of a file's content that a message shows.
SHOWN = 80
_P = ParamSpec('_P')
_R = TypeVar('_R')


class InputError(ValueError):
    """Data, settings or weights cannot be used; the text says what to do.

    The command line tools print it in one line, without a traceback.
    """


@contextmanager
def reading(
    path: str | os.PathLike, expected: str, advice: str = 'get it again'
) -> Iterator[None]:
    """Name the file in whatever goes wrong while it is read.

    Errors of ours keep their text and get the file's name if they lack it.
    A file that is not there, and an error of the operating system that names
    one, stay as they are. All others become an
    :class:`~mmskip.reading.InputError`.

    Args:
        path: The file or the folder that is read.
        expected: What it should be, as messages put it.
        advice: What to do if it cannot be read.

    Raises:
        InputError: It cannot be read.
        OSError: It cannot be opened.
    """
    try:
        yield
    except Warning:  # a filter of the caller's turned it into an error
        raise
    except Exception as error:
        if isinstance(error, FileNotFoundError) or (
            isinstance(error, OSError) and error.filename
        ):
            raise
        if isinstance(error, ValueError) and str(path) in str(error):
            if isinstance(error, InputError):
                raise
            raise InputError(str(error)) from error
        if isinstance(error, InputError):
            raise InputError(f'{path}: {error}') from error
        why = ' '.join(str(error).split()) or 'no reason given'
        raise InputError(
            f'{path}: expected {expected}, got one that cannot be read '
            f'({type(error).__name__}: {_shorten(why, 3 * SHOWN)}); {advice}'
        ) from error


def reads(
    expected: str, advice: str = 'get it again'
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Run a function, whose first argument is a path, in :func:`reading`."""

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @functools.wraps(function)
        def run(path: Any, *args: Any, **options: Any) -> _R:
            with reading(path, expected, advice):
                return function(path, *args, **options)

        return run

    return decorate


def excerpt(value: Any) -> str:
    """Return a value of a file as a message shows it, however long."""
    return _shorten(repr(value), SHOWN)


def read_lines(path: str | os.PathLike) -> list[tuple[int, str]]:
    """Read the lines of a text file with their numbers, from 1.

    Blank lines are left out, white space around lines is removed.

    Raises:
        InputError: The file is empty, or no text in UTF-8.
    """
    with reading(path, 'a text file in UTF-8'):
        # Editors of Windows begin a file with a mark.
        with open(path, encoding='utf-8-sig') as file:
            lines = [(n, line.strip()) for n, line in enumerate(file, 1)]
        found = [(number, line) for number, line in lines if line]
        for number, line in found:
            if '\0' in line:
                raise InputError(
                    f'{path}: line {number}: expected text, got '
                    f'{excerpt(line)} with a zero byte; get it again'
                )
        if not found:
            raise InputError(
                f'{path}: expected lines of text, got an empty file; get it '
                'again'
            )
        return found


def read_json(
    path: str | os.PathLike,
    expected: str = 'a JSON file',
    finite: bool = True,
) -> Any:
    """Read a JSON file, without what Python accepts beyond the standard.

    Args:
        path: The file.
        expected: What it should be, as messages put it.
        finite: Refuse NaN and infinity, which files of results may have.

    Raises:
        InputError: It is none, has a number that is not finite, or a key
            twice in one object.
    """
    number = _finite if finite else float
    with (
        reading(path, expected),
        open(path, encoding='utf-8-sig') as file,
    ):
        return json.load(
            file,
            parse_constant=number,
            parse_float=number,
            object_pairs_hook=_unique,
        )


def read_csv(path: str | os.PathLike) -> Iterator[tuple[int, list[str]]]:
    """Read the rows of a CSV file with their line numbers, from 1.

    Blank lines are left out.

    Raises:
        InputError: It is no CSV file in UTF-8, or a quote is not closed on
            its line: the rows behind it would become one field.
    """
    with (
        reading(path, 'a CSV file in UTF-8'),
        open(path, encoding='utf-8-sig', newline='') as file,
    ):
        rows = csv.reader(file, strict=True)
        number = 1
        while True:
            try:
                row = next(rows, None)
            except csv.Error as error:
                raise InputError(
                    f'{path}: line {number}: expected a row of a CSV file, '
                    f'got one that cannot be read ({error}); is a quote not '
                    'closed?'
                ) from error
            if row is None:
                return
            if rows.line_num != number:
                raise InputError(
                    f'{path}: line {number}: expected a row on one line, got '
                    f'an open quote, which swallows the rows up to line '
                    f'{rows.line_num}; close it'
                )
            if row:
                yield number, row
            number = rows.line_num + 1


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise InputError(
            f'expected numbers, got {excerpt(text)}, which is not finite; '
            'mend it'
        )
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InputError(
            f'expected every key once in an object, got {excerpt(twice)} '
            'twice; of two values one would be lost: mend it'
        )
    return found


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else f'{text[:length]}...'

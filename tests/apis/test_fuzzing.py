"""However a case ends, it is counted."""

import os
import time

import pytest

from mmskip.apis.fuzzing import Reader, fuzz
from mmskip.reading import InputError


@pytest.fixture
def ends_of(tmp_path):
    (tmp_path / 'x.txt').write_text('a 1\nb 2\n')

    def ends(read, mutations=3, limit=60.0):
        reader = Reader('x', 'x.txt', read)
        return fuzz(reader, tmp_path, mutations, seed=0, limit=limit)

    yield ends
    assert (tmp_path / 'x.txt').read_text() == 'a 1\nb 2\n'


def refuse(root, path, mat):
    raise InputError(f'{path}: expected something else')


def raise_foreign(root, path, mat):
    raise IndexError(f'{path}: not ours')


def raise_unnamed(root, path, mat):
    raise InputError('expected something else')


@pytest.mark.parametrize(
    ('read', 'end'),
    [
        (lambda *_: None, 'read'),
        (refuse, 'refused'),
        (raise_foreign, 'unnamed'),
        (raise_unnamed, 'unnamed'),
        (lambda *_: os.abort(), 'crash'),
    ],
)
def test_ends_are_told_apart(ends_of, read, end):
    result = ends_of(read)
    assert result.ends == {end: 3}
    good = end in ('read', 'refused')
    assert [found for _, found, _ in result.examples] == [end] * 3 * (not good)


def test_a_hang_is_cut_off(ends_of):
    start = time.monotonic()
    assert ends_of(lambda *_: time.sleep(60), 2, 1.0).ends == {'hang': 2}
    assert time.monotonic() - start < 30


def test_a_case_has_only_so_much_memory(ends_of):
    result = ends_of(lambda *_: bytearray(2**40))
    assert result.ends == {'unnamed': 3}
    assert 'MemoryError' in result.examples[0][2]

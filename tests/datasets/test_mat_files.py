"""Files of MATLAB do no harm to the process that wants them."""

import os
import signal
import time
from contextlib import contextmanager

import numpy as np
import pytest
from scipy.io import savemat

from mmskip.datasets.mat_files import MatReader, mat_reader
from mmskip.reading import InputError

STRUCT = np.dtype([('video_name', 'O'), ('index', 'O')])
FIELDS = ('video_name', 'index')


@pytest.fixture(scope='module')
def reader():
    with MatReader() as reader:
        yield reader


@pytest.fixture
def write(tmp_path):
    def write(**arrays):
        savemat(tmp_path / 'x.mat', arrays)
        return tmp_path / 'x.mat'

    return write


@contextmanager
def suppress_input_error(path):
    """Collect what an error says, which must name the file."""
    told = []
    try:
        yield told
    except InputError as error:
        told.append(str(error))
    assert all(str(path) in text for text in told)


def structs(*rows):
    return np.array([list(rows)], STRUCT)


@pytest.mark.parametrize('dtype', ['u1', 'f4', 'f8', 'i2', '?'])
def test_arrays_arrive_as_they_are(reader, write, dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    found = reader.matrix(write(a=array, b=np.zeros(3)), 'a')
    assert found.dtype == (np.uint8 if dtype == '?' else array.dtype)
    np.testing.assert_array_equal(found, array)


def test_structs_arrive_as_texts_and_numbers(reader, write):
    path = write(videos=structs(('a', 7), ('b', [1.5, 2]), ('c', {'d': 1})))
    found = reader.rows(path, FIELDS)
    assert [row['video_name'] for row in found] == ['a', 'b', 'c']
    assert [row['index'] for row in found] == [[7], [1.5, 2], None]


@pytest.mark.parametrize('value', ['text', 1 + 2j, {'b': 1}])
def test_what_are_no_numbers_is_refused(reader, write, value):
    with pytest.raises(InputError, match=r'x\.mat: expected a in a file'):
        reader.matrix(write(a=value), 'a')


def test_what_is_missing_is_named(reader, write, tmp_path):
    path = write(a=np.zeros(3))
    with pytest.raises(InputError, match=r'x\.mat: .*there is no b in it'):
        reader.matrix(path, 'b')
    with pytest.raises(InputError, match=r'x\.mat: .*0 struct arrays'):
        reader.rows(path, FIELDS)
    with pytest.raises(FileNotFoundError, match=r'no\.mat'):
        reader.matrix(tmp_path / 'no.mat', 'a')


def test_damage_that_crashes_scipy_is_an_error(reader, write):
    """Single flipped bits where a struct states sizes and names."""
    path = write(videos=structs(*(('a', n) for n in range(20))))
    whole = path.read_bytes()
    ends = []
    for place in range(236, 276):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with suppress_input_error(path) as told:
            reader.rows(path, FIELDS)
        ends += told
    assert any('crashes the reader (SIGSEGV)' in end for end in ends)
    path.write_bytes(whole)
    assert len(reader.rows(path, FIELDS)) == 20


def test_a_process_that_hangs_is_told_and_replaced(write):
    path = write(a=np.ones(3))
    with MatReader() as reader:
        reader.matrix(path, 'a')
        reader.seconds = 0.5
        os.kill(reader._process.pid, signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(InputError, match=r'x\.mat.*more than 0.5 s'):
            reader.matrix(path, 'a')
        assert time.monotonic() - start < 5
        reader.seconds = 60
        assert reader.matrix(path, 'a').sum() == 3


def test_a_process_that_was_killed_is_replaced(write):
    path = write(a=np.ones(3))
    with MatReader() as reader:
        reader.matrix(path, 'a')
        reader._process.kill()
        reader._process.wait()
        assert reader.matrix(path, 'a').sum() == 3


def test_no_process_is_left(write):
    path = write(a=np.ones(3))
    with mat_reader(None) as reader:
        reader.matrix(path, 'a')
        process = reader._process
        with mat_reader(reader) as same:
            assert same is reader
        assert process.poll() is None
    assert process.poll() is not None

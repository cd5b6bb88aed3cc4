"""Pickles of arrays are read whole; files that would do harm are not."""

import contextlib
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from mmskip.compat.pickles import read_pickle
from tests.helpers.pickle_attacks import ARRAYS, CODE, STREAMS, Call

PLAIN = [
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype='>i2').reshape(2, 3)),
    np.arange(24, dtype=np.uint8).reshape(4, 6)[::2, ::-3],
    np.zeros((0, 4), np.float32),
    np.zeros((2, 0), 'U3'),
    np.array(3.5),
    np.array([True, False]),
    np.array([1j, 2], np.complex64),
    np.array(['a', 'bcd']),
    np.array(['é', '日'], '>U3'),
    np.array([b'x', b'yz']),
    np.float16(0.1),
    np.longdouble(3),
    np.int64(-1),
    np.bool_(True),
    np.str_('left'),
    np.dtype('>i2'),
]


@pytest.mark.parametrize('value', PLAIN, ids=repr)
def test_arrays_are_read_as_they_were(value):
    content = {'a': [value, (value, (1, b'', 'x'))], 'b': value}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        read = read_pickle(pickle.dumps(content, protocol))
        for found in (read['a'][0], read['a'][1][0], read['b']):
            assert type(found) is type(value)
            assert found is read['b'] or not isinstance(value, np.ndarray)
            if not isinstance(value, np.dtype):
                assert found.dtype == value.dtype
                np.testing.assert_array_equal(found, value)
        assert read['a'][1][1] == (1, b'', 'x')


def test_arrays_may_be_written_to():
    read = read_pickle(pickle.dumps(np.zeros(3)))
    read += 1
    assert read.tolist() == [1, 1, 1]


def test_usual_dtypes_are_those_of_numpy():
    read = read_pickle(pickle.dumps(np.zeros(3, np.float32)))
    assert read.dtype is np.dtype(np.float32)


def test_containers_are_read():
    content = OrderedDict(a=[1, 2.5, None, True], b={'c': (1, {2})})
    assert read_pickle(pickle.dumps(content, 4)) == content
    shared = [1]
    first, second = read_pickle(pickle.dumps([shared, shared]))
    assert first is second
    first.append(first)
    assert read_pickle(pickle.dumps(first))[1][1][0] == 1


def test_files_of_python_2_are_read():
    stream = (
        b"(dp0\nS'box'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n"
        b"(cnumpy\nndarray\np3\n(I0\ntp4\nS'b'\np5\ntp6\nRp7\n"
        b"(I1\n(I2\ntp8\ncnumpy\ndtype\np9\n(S'f4'\np10\nI0\nI1\ntp11\n"
        b"Rp12\n(I3\nS'<'\np13\nNNNI-1\nI-1\nI0\ntp14\nbI00\n"
        b"S'\\x00\\x00\\x80?\\x00\\x00\\x00@'\np15\ntp16\nbs."
    )
    (box,) = read_pickle(stream).values()
    np.testing.assert_array_equal(box, np.array([1, 2], np.float32))


@pytest.fixture
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures('_own_folder')
@pytest.mark.parametrize('name', [*ARRAYS, *CODE])
def test_a_file_that_would_do_harm_is_refused(name):
    for protocol in (0, 2, 4):
        stream = pickle.dumps({'a': ({**ARRAYS, **CODE}[name],)}, protocol)
        with pytest.raises(pickle.UnpicklingError):
            read_pickle(stream)
    assert os.listdir() == []


@pytest.mark.usefixtures('_own_folder')
@pytest.mark.parametrize('name', STREAMS)
def test_a_stream_that_no_pickler_writes_is_refused(name):
    with pytest.raises(pickle.UnpicklingError):
        read_pickle(STREAMS[name])
    assert os.listdir() == []


def test_a_registered_extension_is_not_looked_up(monkeypatch):
    monkeypatch.setitem(pickle._extension_cache, 1, os.getcwd)
    with pytest.raises(pickle.UnpicklingError):
        read_pickle(b'\x80\x02\x82\x01)R.')


def test_a_damaged_file_is_refused_or_read():
    """Nothing but the one error, whatever bytes are changed."""
    content = {'run/v1,0001': np.ones((2, 5)), 'n': np.float32(1)}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        stream = bytearray(pickle.dumps(content, int(rng.integers(0, 6))))
        for _ in range(rng.integers(1, 4)):
            stream[rng.integers(len(stream))] = rng.integers(256)
        with contextlib.suppress(pickle.UnpicklingError):
            read_pickle(bytes(stream[: rng.integers(1, 2 * len(stream))]))


def test_what_is_shared_is_gone_through_once():
    """Of a hundred pairs of pairs: 2 ** 100 ways lead to the innermost."""
    read = read_pickle(b'\x80\x02)' + b'2\x86' * 100 + b'.')
    assert read[0] is read[1]


def test_the_message_tells_what_was_wanted():
    with pytest.raises(
        pickle.UnpicklingError, match=r'run posix\.mkdir, which no array'
    ):
        read_pickle(pickle.dumps(Call(os.mkdir, 'intruded')))
